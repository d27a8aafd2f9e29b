"""How worn the shard of a collection is, and when that is worth a copy.

<folder>/worn               what has happened to this generation
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

INDEXED_FROM: Final = 20_000
"""So few points are searched one by one within 3 ms; measured with 384 components."""

_WORN: Final = "worn"
_SMALL: Final = 1000
"""So few deleted points are never worth a copy."""
_BUSY: Final = 500.0
"""Points written in a second, on average over some ten."""


@dataclass
class Wear:
    """What has happened to a generation since it was made. A hint: a kill may lose its last second.

    :param generation: its number
    :param removed: points that were deleted, whose room is gone
    :param unindexed: points that were written since its vectors were indexed
    """

    generation: int
    removed: int = 0
    unindexed: int = 0

    def is_worth_a_copy(self, size: int, pace: float, indexed_from: int | None) -> bool:
        """Whether a third of the room is that of points that are gone, or many are not indexed.

        While a store is filled, it would be indexed again and again: then later, and more at once.

        :param size: how many points there are
        :param pace: points written in a second
        :param indexed_from: so many points have an index; `None` without vectors
        """
        if self.removed >= _SMALL + size // 2:
            return True
        if indexed_from is None or size < indexed_from:
            return False
        few, share = (5 * indexed_from, 0.5) if pace > _BUSY else (indexed_from, 0.2)
        return self.unindexed >= max(few, share * size)


def write_wear(folder: Path, wear: Wear) -> None:
    """Note it, if the disk takes it."""
    with suppress(OSError):
        (folder / _WORN).write_text(json.dumps(asdict(wear)))


def read_wear(folder: Path, generation: int) -> Wear | None:
    """What was noted of a generation, if it was."""
    try:
        wear = Wear(**json.loads((folder / _WORN).read_text()))
    except (OSError, ValueError, TypeError):  # a kill may have come before or amid it
        return None
    return wear if wear.generation == generation else None
