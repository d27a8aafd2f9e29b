"""A collection of the embedded store: its description, and a shard that is rewritten when needed.

    <folder>/collection.json    what it was created with, and which generation holds its points
    <folder>/<generation>/      a shard of the engine
    <folder>/removed            how many points this generation has lost: the room that is gone

The engine overwrites a point in its place, but never gives back the room of one that was deleted.
So when more points have been deleted than are left, everything that lives is copied into a new
generation, page by page, while reading and writing go on; what changes meanwhile is copied again at
the end. The description names the new generation in one atomic step, so a kill leaves one or the
other.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from qdrant_client import models as q

from connectors.qdrant.embedded.engine import EngineError, Point, Selection, Shard, as_point

MIN_FREE_BYTES: Final = 64 * 2**20
"""No write begins with less room on the disk: the engine needs two segments of its log."""

_PAGE: Final = 128
_SMALL: Final = 1000
"""So few deleted points are never worth a copy."""
_ROUNDS: Final = 50
_DESCRIPTION: Final = "collection.json"
_REMOVED: Final = "removed"


class DiskFullError(Exception):
    """There is no room for a write; nothing of it was done."""


class Layout(NamedTuple):
    """What a collection was created with."""

    vectors: Mapping[str, q.VectorParams]
    """By name."""
    sparse: Mapping[str, q.SparseVectorParams]
    """By name."""


class Collection:
    """Thread-safe. Each method that changes something returns when a kill -9 cannot undo it.

    :param folder: of a collection that `create` has made
    :raises EngineError: by each method, what the engine refuses
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        description = json.loads((folder / _DESCRIPTION).read_text())
        self.layout = Layout(
            {name: q.VectorParams(**params) for name, params in description["vectors"].items()},
            {
                name: q.SparseVectorParams(**params)
                for name, params in description["sparse"].items()
            },
        )
        self._generation: int = description["generation"]
        for left in folder.iterdir():
            if left.name.isdecimal() and left.name != str(self._generation):
                shutil.rmtree(left)
        self._shard = Shard.load(self._path)
        self._lock = threading.RLock()
        self._unflushed = False
        self._changed: set[Any] | None = None
        self._closed = False
        self._removed = self._read_removed()

    @classmethod
    def create(cls, folder: Path, layout: Layout) -> "Collection":
        """A new collection; it exists from its description on, which comes last."""
        _check_room(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)  # half made, or half removed
        (folder / "1").mkdir(parents=True)
        Shard.create(folder / "1", *layout).close()
        _describe(folder, 1, layout)
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes: for a write that goes by what was read."""
        with self._lock:
            yield

    def upsert(self, points: Sequence[Point]) -> None:
        """Write whole points."""
        with self._writing([point.id for point in points]) as shard:
            shard.upsert(points)

    def delete(self, ids: Sequence[Any]) -> None:
        """Delete points, as far as they are there."""
        with self._writing(ids) as shard:
            shard.delete(ids)
            self._removed += len(ids)

    def set_payload(self, ids: Sequence[Any], payload: Mapping[str, Any], key: str | None) -> None:
        """Set some fields of the payloads of points that are there, below `key` if given."""
        with self._writing(ids) as shard:
            shard.set_payload(ids, payload, key)

    def overwrite_payload(
        self, ids: Sequence[Any], payload: Mapping[str, Any], key: str | None
    ) -> None:
        """Replace the payloads of points."""
        with self._writing(ids) as shard:
            shard.overwrite_payload(ids, payload, key)

    def delete_payload(self, ids: Sequence[Any], keys: Sequence[str]) -> None:
        """Remove fields of the payloads of points."""
        with self._writing(ids) as shard:
            shard.delete_payload(ids, keys)

    def matching(self, only: q.Filter) -> list[Any]:
        """The ids of all points that a filter lets through."""
        ids: list[Any] = []
        offset = None
        while True:
            page, offset = self.scroll(offset, 1000, only, False, False)
            ids += [record.id for record in page]
            if offset is None:
                return ids

    def index(self, field: str, type_: str) -> None:
        """Index a field of the payload."""
        with self._writing([]) as shard:
            shard.index(field, type_)
            self._changed = None  # a copy that has been begun lacks it

    def unindex(self, field: str) -> None:
        """Forget the index of a field."""
        with self._writing([]) as shard:
            shard.unindex(field)
            self._changed = None

    def indexes(self) -> dict[str, str]:
        """The type of each indexed field."""
        with self._lock:
            return self._shard.indexes()

    def retrieve(self, ids: Sequence[Any], payload: Selection, vectors: Any) -> list[Any]:
        """Points by id, as far as they are there."""
        with self._lock:
            return self._shard.retrieve(ids, payload, vectors)

    def scroll(
        self, offset: Any, limit: int, only: q.Filter | None, payload: Selection, vectors: Any
    ) -> tuple[list[Any], Any]:
        """A page of points in the order of their ids, and where the next one begins."""
        with self._lock:
            return self._shard.scroll(offset, limit, only, payload, vectors)

    def count(self, only: q.Filter | None = None) -> int:
        """How many points a filter lets through."""
        with self._lock:
            return self._shard.count(only)

    def facet(self, key: str, limit: int, only: q.Filter | None) -> dict[Any, int]:
        """How many points have each value of an indexed field."""
        with self._lock:
            return self._shard.facet(key, limit, only)

    def query(self, requests: Sequence[q.QueryRequest]) -> list[list[Any]]:
        """For each request its best points."""
        with self._lock:
            return self._shard.query(requests)

    def flush(self) -> None:
        """Bring what is new to the disk, so that a loss of power cannot undo it either."""
        with self._lock:
            if self._unflushed and not self._closed:
                self._shard.flush()
                self._unflushed = False
                self._note_removed()

    def close(self) -> None:
        """Flush and release the folder."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._shard.close()

    def remove(self) -> None:
        """Delete the collection for good."""
        with self._lock:
            (self._folder / _DESCRIPTION).unlink()  # from here on it does not exist
            self.close()
            shutil.rmtree(self._folder, ignore_errors=True)  # a copy may still be made in it

    @property
    def bloated(self) -> bool:
        """Whether more than half of the room is that of points that are gone."""
        with self._lock:
            if self._closed or self._removed < _SMALL:
                return False
            return self._removed >= _SMALL + self._shard.count()

    def rewrite(self) -> bool:
        """Copy what lives into a new generation; reading and writing go on meanwhile.

        Called by one thread only.

        :returns: whether it was done; not, if the collection went or its indexes changed meanwhile
        """
        generation = self._generation + 1
        target = self._folder / str(generation)
        shutil.rmtree(target, ignore_errors=True)
        copy, done = None, False
        try:
            with self._lock:
                self._check_room()
                target.mkdir()
                copy = Shard.create(target, *self.layout)
                for field, type_ in self._shard.indexes().items():
                    copy.index(field, type_)
                self._changed = set()
            done = self._copy_all(copy) and self._switch(copy, generation)
        finally:
            with self._lock:
                self._changed = None
            if not done:
                if copy is not None:
                    copy.close()
                shutil.rmtree(target, ignore_errors=True)
        return done

    @property
    def _path(self) -> Path:
        return self._folder / str(self._generation)

    @contextmanager
    def _writing(self, ids: Sequence[Any]) -> Iterator[Shard]:
        with self._lock:
            self._check_room()
            self._unflushed = True
            if self._changed is not None:
                self._changed.update(map(_canonical, ids))
            yield self._shard

    def _check_room(self) -> None:
        if self._closed:
            raise EngineError("the collection is gone")
        _check_room(self._folder)

    def _copy_all(self, copy: Shard) -> bool:
        offset = None
        while True:
            started = time.monotonic()
            with self._lock:
                if self._closed or self._changed is None:
                    return False
                page, offset = self._shard.scroll(offset, _PAGE, None, True, True)
            copy.upsert([as_point(record) for record in page])
            if offset is None:
                return True
            time.sleep(time.monotonic() - started)  # half of the time is everybody else's

    def _switch(self, copy: Shard, generation: int) -> bool:
        for _ in range(_ROUNDS):
            with self._lock:
                if self._changed is None:
                    return False
                some = [self._changed.pop() for _ in range(min(_PAGE, len(self._changed)))]
                found = self._shard.retrieve(some, True, True)
                left = len(self._changed)
            _carry(copy, some, found)
            if left < _PAGE:
                break
        copy.flush()
        with self._lock:
            if self._closed or self._changed is None:
                return False
            rest = list(self._changed)
            _carry(copy, rest, self._shard.retrieve(rest, True, True))
            copy.flush()
            _describe(self._folder, generation, self.layout)
            old, old_path = self._shard, self._path
            self._shard, self._generation = copy, generation
            self._removed = 0
            self._note_removed()
        old.close()
        shutil.rmtree(old_path, ignore_errors=True)
        return True

    def _note_removed(self) -> None:
        (self._folder / _REMOVED).write_text(f"{self._generation} {self._removed}")

    def _read_removed(self) -> int:
        try:
            generation, removed = (self._folder / _REMOVED).read_text().split()
            if int(generation) == self._generation:
                return int(removed)
        except (OSError, ValueError):  # only a hint: a kill may have come before or amid it
            pass
        return 0


def _check_room(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
        raise DiskFullError(
            f"No space left on device: less than {MIN_FREE_BYTES >> 20} MB are free on the "
            "disk of the store"
        )


def _carry(copy: Shard, ids: Sequence[Any], found: Sequence[Any]) -> None:
    there = {_canonical(record.id) for record in found}
    if gone := [id_ for id_ in ids if id_ not in there]:
        copy.delete(gone)
    if found:
        copy.upsert([as_point(record) for record in found])


def _canonical(id_: Any) -> Any:
    """The one form of an id: a number, or a UUID with dashes and small letters."""
    if isinstance(id_, int):
        return id_
    try:
        return str(UUID(str(id_)))
    except ValueError:  # for the engine to refuse
        return id_


def _describe(folder: Path, generation: int, layout: Layout) -> None:
    kinds = {
        kind: {name: p.model_dump(mode="json", exclude_none=True) for name, p in params.items()}
        for kind, params in layout._asdict().items()
    }
    description = {**kinds, "generation": generation}
    begun = folder / f"{_DESCRIPTION}.begun"
    with begun.open("w") as file:
        json.dump(description, file)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(folder / _DESCRIPTION)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
