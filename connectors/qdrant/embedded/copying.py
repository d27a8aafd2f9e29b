"""A copy of a shard in the making, while the shard is read and written.

A change of the shard is carried to the copy afterwards; so the copy is complete when nothing has
changed since it was last brought up to date, and its maker holds the lock.
"""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from connectors.qdrant.embedded.description import Layout
from connectors.qdrant.embedded.engine import EngineError, Shard, as_point
from connectors.qdrant.embedded.index import index_apart

PAGE: Final = 128
"""Points that are copied in one go."""


class Copy:
    """The copy. Not thread-safe, but for `note`.

    :param folder: where it is made; what was there is deleted
    :param indexes: of the payload, field and type
    :raises EngineError: by each method, what the engine refuses
    """

    def __init__(self, folder: Path, layout: Layout, indexes: Iterable[tuple[str, str]]) -> None:
        self.folder = folder
        self._names = {*layout.vectors, *layout.sparse}
        self.changed: set[Any] = set()
        """The ids of what has changed in the shard."""
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            self.shard = Shard.create(folder, *layout)
            for field, type_ in indexes:
                self.shard.index(field, type_)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def note(self, ids: Sequence[Any]) -> None:
        """These points of the shard are about to change."""
        self.changed.update(id_ for id_ in map(_canonical, ids) if id_ is not None)

    def add(self, records: Sequence[Any]) -> None:
        """Copy points of the shard."""
        if records:
            self.shard.upsert([as_point(record, self._names) for record in records])

    def carry(self, ids: Sequence[Any], found: Sequence[Any]) -> None:
        """Bring changed points up to date: those that were found, and those that are gone."""
        there = {_canonical(record.id) for record in found}
        if gone := [id_ for id_ in ids if id_ not in there]:
            self.shard.delete(gone)
        self.add(found)

    def index(self) -> str:
        """Index the vectors; empty, or why they are not. A copy without is a good one, too."""
        self.shard.close()
        try:
            index_apart(self.folder)
        except (EngineError, OSError) as error:
            return str(error)
        finally:
            self.shard = Shard.load(self.folder)
        return ""

    def discard(self) -> None:
        """Delete it."""
        with suppress(EngineError):
            self.shard.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _canonical(id_: Any) -> Any:
    """The one form of an id: a number, or a UUID with dashes and small letters; None for what is
    neither, which the engine refuses.
    """
    if isinstance(id_, int):
        return id_
    try:
        return str(UUID(str(id_)))
    except ValueError:
        return None
