"""A collection of the embedded store: its description, and a shard that is rewritten when needed.

    <folder>/collection.json    what it was created with, and which generation holds its points
    <folder>/<generation>/      a shard of the engine
    <folder>/worn               how much of this generation is lost room, or not indexed

The engine overwrites a point in its place, but never gives back the room of one that was deleted,
and does not index vectors by itself. So when enough has been deleted or written, everything that
lives is copied into a new generation, page by page, while reading and writing go on; the copy of a
large collection gets an index; what changes meanwhile is copied again at the end. The description
names the new generation in one atomic step, so a kill leaves one or the other.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from qdrant_client import models as q

from connectors.qdrant.embedded.copying import PAGE, Copy
from connectors.qdrant.embedded.description import (
    DESCRIPTION,
    Layout,
    read_description,
    write_description,
)
from connectors.qdrant.embedded.engine import (
    EngineError,
    EngineFailedError,
    Point,
    Selection,
    Shard,
)
from connectors.qdrant.embedded.room import check_room, size_of
from connectors.qdrant.embedded.wear import INDEXED_FROM, Wear, read_wear, write_wear

_ROUNDS: Final = 50

_UNFLUSHED: Final = 10_000
"""Points that a start makes of the log within some two seconds."""
_FLUSHED_IN_A_COPY: Final = 2000
"""Points; a flush of so many holds Python's lock for less than a tenth of a second."""
_LOG_BYTES: Final = 64 * 2**20
_FLUSHED_WITHIN_S: Final = 30.0

log = logging.getLogger("qdrant")


class Collection:
    """Thread-safe. Each method that changes something returns when a kill -9 cannot undo it.

    :param folder: of a collection that `create` has made
    :raises EngineError: by each method, what the engine refuses
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.layout, generation = read_description(folder)
        self._shard = Shard.load(folder / str(generation))
        for left in folder.iterdir():
            if left.name.isdecimal() and left.name != str(generation):
                shutil.rmtree(left, ignore_errors=True)
        self._lock = threading.RLock()
        self._unflushed: int | None = 0  # what a killed server has not brought to the disk
        self._flushed_at = time.monotonic()
        self._written = 0
        self._pace = 0.0
        self._copy: Copy | None = None
        self._closed = False
        self._wear = read_wear(folder, generation) or Wear(generation, 0, self._shard.size)

    @classmethod
    def create(cls, folder: Path, layout: Layout) -> "Collection":
        """A new collection; it exists from its description on, which comes last."""
        check_room(folder.parent)
        if (folder / DESCRIPTION).exists():  # its name in other letters, on a disk that takes both
            raise EngineError(f"the folder {folder.name} has another collection")
        shutil.rmtree(folder, ignore_errors=True)  # half made, or half removed
        (folder / "1").mkdir(parents=True)
        Shard.create(folder / "1", *layout).close()
        write_description(folder, 1, layout)
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes: for a write that goes by what was read."""
        with self._lock:
            yield

    def upsert(self, points: Sequence[Point]) -> None:
        """Write whole points."""
        with self._writing([point.id for point in points]) as shard:
            self.layout.check(point.vectors for point in points)
            shard.upsert(points)

    def delete(self, ids: Sequence[Any]) -> None:
        """Delete points, as far as they are there."""
        with self._writing(ids) as shard:
            shard.delete(ids)
            self._wear.removed += len(ids)

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

    def update_vectors(self, points: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Set some vectors of points that are there, by id; their other ones stay."""
        with self._writing([id_ for id_, _ in points]) as shard:
            self.layout.check(vectors for _, vectors in points)
            shard.update_vectors(points)

    def add_sparse(self, name: str, params: q.SparseVectorParams) -> None:
        """Let points have a sparse vector of this name.

        The description tells it last. Until then nobody writes such a vector, so a kill in between
        leaves a collection without them.
        """
        with self._writing([]) as shard:
            if name in self.layout.vectors or name in self.layout.sparse:
                return
            with suppress(EngineError):
                shard.remove_vectors(name)  # what a kill has left, see below
            shard.add_sparse(name, params)
            self._relayout(self.layout._replace(sparse={**self.layout.sparse, name: params}))

    def remove_vectors(self, name: str) -> None:
        """Forget a vector of all points, and its name; the description first."""
        with self._writing([]) as shard:
            dense, sparse = dict(self.layout.vectors), dict(self.layout.sparse)
            dense.pop(name, None)
            sparse.pop(name, None)
            self._relayout(Layout(dense, sparse))
            shard.remove_vectors(name)

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
            self._copy = None  # one that has been begun lacks it

    def unindex(self, field: str) -> None:
        """Forget the index of a field."""
        with self._writing([]) as shard:
            shard.unindex(field)
            self._copy = None

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
        """Bring what is new to the disk, so that a loss of power cannot undo it either.

        Called once a second. While it is written, the log alone goes there: reads and writes need
        not wait for that, and a start makes the points of it. What a start has to do is bounded.
        """
        with self._lock:
            written, self._written = self._written, 0
            self._pace = 0.9 * self._pace + 0.1 * written
            if self._unflushed is None or self._closed:
                return
            late = time.monotonic() - self._flushed_at > _FLUSHED_WITHIN_S
            due = not written or late or self._unflushed >= _UNFLUSHED
            shard = self._shard
        with suppress(FileNotFoundError):  # another shard has taken its place
            due = due or shard.sync() > _LOG_BYTES
        with self._lock:
            if due:
                self._flush_all()
            write_wear(self._folder, self._wear)

    def close(self) -> None:
        """Flush and release the folder."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._shard.close()

    def remove(self) -> None:
        """Delete the collection for good."""
        with self._lock:
            (self._folder / DESCRIPTION).unlink()  # from here on it does not exist
            self.close()
            shutil.rmtree(self._folder, ignore_errors=True)  # a copy may still be made in it

    @property
    def size(self) -> int:
        """How many points there are."""
        with self._lock:
            return self._shard.size

    @property
    def is_worn(self) -> bool:
        """Whether its shard is worth a copy."""
        with self._lock:
            if self._closed:
                return False
            indexed_from = INDEXED_FROM if self.layout.vectors else None
            return self._wear.is_worth_a_copy(self._shard.size, self._pace, indexed_from)

    def rewrite(self) -> bool:
        """Copy what lives into a new generation; reading and writing go on meanwhile.

        Called by one thread only.

        :returns: whether it was done; not, if the collection went, or its indexes or the names of
            its vectors changed meanwhile
        """
        # Not the next number: what a killed server has begun may still be there.
        generation = max(self._wear.generation + 1, int(time.time()))
        with self._lock:
            self._check_room(self._room_of_a_copy())
            copy = Copy(self._folder / str(generation), self.layout, self._shard.indexes().items())
            self._copy = copy
        try:
            return self._copy_all(copy) and self._switch(copy, generation)
        finally:
            with self._lock:
                self._copy = None
                switched = self._shard is copy.shard
            if not switched:
                copy.discard()

    @contextmanager
    def _writing(self, ids: Sequence[Any]) -> Iterator[Shard]:
        with self._lock:
            self._check_room()
            self._unflushed = (self._unflushed or 0) + len(ids)
            if self._copy is not None:
                self._copy.note(ids)
            yield self._shard
            self._wear.unindexed += len(ids)  # the engine moves what changes out of its index
            self._written += len(ids)

    def _flush_all(self) -> None:
        if not self._closed:
            self._shard.flush()
            self._unflushed, self._flushed_at = None, time.monotonic()

    def _relayout(self, layout: Layout) -> None:
        self._shard.flush()
        write_description(self._folder, self._wear.generation, layout)
        self.layout = layout
        self._copy = None  # one that has been begun is of the former layout

    def _check_room(self, more: int = 0) -> None:
        if self._closed:
            raise EngineError("the collection is gone")
        check_room(self._folder, more)

    def _room_of_a_copy(self) -> int:
        """Bytes; while it is indexed, it is there twice."""
        bytes_ = size_of(self._folder / str(self._wear.generation))
        return 2 * bytes_ if self._is_large else bytes_

    @property
    def _is_large(self) -> bool:
        return bool(self.layout.vectors) and self._shard.size >= INDEXED_FROM

    def _copy_all(self, copy: Copy) -> bool:
        offset, unflushed = None, 0
        while True:
            started = time.monotonic()
            with self._lock:
                if self._closed or self._copy is None:
                    return False
                page, offset = self._shard.scroll(offset, PAGE, None, True, True)
            check_room(self._folder)
            copy.add(page)
            unflushed += len(page)
            if unflushed > _FLUSHED_IN_A_COPY:  # else its log has all of it, and the end takes long
                copy.shard.flush()
                unflushed = 0
            if offset is None:
                return True
            time.sleep(time.monotonic() - started)  # half of the time is everybody else's

    def _switch(self, copy: Copy, generation: int) -> bool:
        wear = Wear(generation, 0, copy.shard.size)
        if self.layout.vectors and wear.unindexed >= INDEXED_FROM:
            wear.unindexed = 0  # also if it fails: it is tried again after as many changes
            if problem := copy.index():
                log.warning("%s", problem)
        for _ in range(_ROUNDS):
            with self._lock:
                changed, copy.changed = list(copy.changed), set()
            for start in range(0, len(changed), PAGE):
                some = changed[start : start + PAGE]
                with self._lock:
                    if self._closed or self._copy is None:
                        return False
                    found = self._shard.retrieve(some, True, True)
                copy.carry(some, found)
            wear.unindexed += len(changed)
            if len(changed) < PAGE:
                break
        copy.shard.flush()
        with self._lock:
            if self._closed or self._copy is None:
                return False
            rest = list(copy.changed)
            copy.carry(rest, self._shard.retrieve(rest, True, True))
            copy.shard.flush()
            lasting = write_description(self._folder, generation, self.layout)
            old, old_path = self._shard, self._folder / str(self._wear.generation)
            self._shard, self._wear = copy.shard, wear
            write_wear(self._folder, wear)
        with suppress(EngineError, EngineFailedError):
            old.close()
        if lasting:
            shutil.rmtree(old_path, ignore_errors=True)
        return True
