"""What stands beside the points of a collection: how it was created, and how worn its shard is.

<folder>/collection.json    what it was created with, and which generation holds its points
<folder>/worn               what has happened to this generation, see `Wear`
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from qdrant_client import models as q

DESCRIPTION: Final = "collection.json"
_WORN: Final = "worn"


class Layout(NamedTuple):
    """What a collection was created with."""

    vectors: Mapping[str, q.VectorParams]
    """By name."""
    sparse: Mapping[str, q.SparseVectorParams]
    """By name."""


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


def write_description(folder: Path, generation: int, layout: Layout) -> bool:
    """Replace the description in one step.

    :returns: whether a loss of power cannot undo it; if it can, the former generation has to stay
    :raises OSError: nothing was replaced
    """
    kinds = {
        kind: {name: p.model_dump(mode="json", exclude_none=True) for name, p in params.items()}
        for kind, params in layout._asdict().items()
    }
    begun = folder / f"{DESCRIPTION}.begun"
    with begun.open("w") as file:
        json.dump({**kinds, "generation": generation}, file)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(folder / DESCRIPTION)
    try:
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError:
        return False
    return True


def read_description(folder: Path) -> tuple[Layout, int]:
    """What a collection was created with, and the generation that holds its points."""
    description = json.loads((folder / DESCRIPTION).read_text())
    layout = Layout(
        {name: q.VectorParams(**params) for name, params in description["vectors"].items()},
        {name: q.SparseVectorParams(**params) for name, params in description["sparse"].items()},
    )
    return layout, description["generation"]


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
