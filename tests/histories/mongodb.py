"""A model of MongoDB and of the capture that reads it."""

import sys
import time
from bisect import bisect_left
from typing import Any, NamedTuple

from flows.operators.encode import encode
from models import MAX_ORDINAL, CapturedChange, Message

TYPES = ("posts", "articles")
IDS: tuple[Any, ...] = ("a", "b", 7)

DocumentKey = tuple[str, Any]


class Entry(NamedTuple):
    """A line of MongoDB's oplog."""

    op: str
    type: str
    id: Any
    version: int
    document: dict[str, Any] | None
    ordinal: int


class Mongo:
    """Documents and their oplog."""

    def __init__(self) -> None:
        self.time = (int(time.time()) << 32) + 1000
        self.live: dict[DocumentKey, dict[str, Any]] = {}
        self.written: dict[DocumentKey, int] = {}
        """When each document was written last."""
        self.oplog: list[Entry] = []

    def commit(self, writes: list[tuple[str, DocumentKey, dict[str, Any]]]) -> None:
        """One transaction: all its changes share one cluster time."""
        self.time += 1
        for kind, key, fields in writes:
            if kind == "delete":
                if self.live.pop(key, None) is not None:
                    self._log("delete", key)
                continue
            known = self.live.get(key)
            merged = {**known, **fields} if known and kind == "update" else fields
            self.live[key], self.written[key] = {**merged, "_id": key[1]}, self.time
            self._log("insert" if known is None else kind, key, self.live[key])

    def drop(self, type_: str) -> None:
        """Drop a collection, or rename it away."""
        self.time += 1
        for key in [key for key in self.live if key[0] == type_]:
            del self.live[key]
        self._log("drop", (type_, None))

    def rename_into(self, type_: str, documents: dict[Any, dict[str, Any]]) -> None:
        """Rename a collection into the place of `type_`: its documents have no changes."""
        self.time += 1
        for key in [key for key in self.live if key[0] == type_]:
            del self.live[key]
        self.live |= {(type_, id_): {**doc, "_id": id_} for id_, doc in documents.items()}
        self.written |= {(type_, id_): self.time for id_ in documents}
        self._log("rename", (type_, None))

    def _log(self, op: str, key: DocumentKey, document: dict[str, Any] | None = None) -> None:
        last = self.oplog[-1] if self.oplog else None
        ordinal = last.ordinal + 1 if last and last.version == self.time else 0
        self.oplog.append(Entry(op, *key, self.time, document, ordinal))


class Position(NamedTuple):
    """Where a capture stands: in a snapshot, or behind a line of the oplog."""

    start: int
    collection: int | None = None
    """Index of the type being scanned; None in the stream."""
    row: int = 0
    """Index of the next `_id` of it."""
    line: int = 0
    """Next line of the oplog."""
    ignored: int = 0
    """Version whose renames have had their snapshot."""


class Capture:
    """What `connectors.mongodb.capture` sends, in which order, with which versions.

    :param queues: one for each partition
    """

    def __init__(self, mongo: Mongo, queues: list[str]) -> None:
        self.mongo = mongo
        self.encode = encode(queues)
        self._passed = [(Position(mongo.time, collection=0), 0)]
        """The checkpoint, and every position behind it, each with how many messages it takes."""

    def note(self, submitted: int) -> None:
        """Everything up to here has been submitted, so many messages by now."""
        self._passed = [(position, min(count, submitted)) for position, count in self._passed]

    def checkpoint(self, back: int, confirmed: int) -> None:
        """Store a position that is `back` steps behind, if what comes before it is confirmed."""
        last = max(0, len(self._passed) - 1 - back)
        while last and self._passed[last][1] > confirmed:
            last -= 1
        self._passed = self._passed[last:]

    def restart(self) -> None:
        """Begin again at the checkpoint; what was submitted since is nobody's any more."""
        self._passed = [(self._passed[0][0], 0)]

    def lose_history(self) -> None:
        """Begin another snapshot, whose time is stored before anything of it goes out."""
        self._passed = [(Position(self.mongo.time, collection=0), 0)]

    def step(self) -> list[Message] | None:
        """The messages of the next row or change; None when there is none."""
        here = self._passed[-1][0]
        if here.collection is not None:
            return self._scan(here, TYPES[here.collection])
        if here.line == len(self.mongo.oplog):
            return None
        entry = self.mongo.oplog[here.line]
        if entry.op == "rename" and entry.version > here.ignored:
            self._pass(Position(entry.version, collection=0, ignored=entry.version))
            return []
        self._pass(here._replace(line=here.line + 1))
        if entry.op == "rename":
            return []
        document = entry.document
        if entry.op == "update":
            document = self.mongo.live.get((entry.type, entry.id))
            if document is None:
                return []
        return self.encode(
            CapturedChange(
                entry.op, entry.type, entry.version, entry.id, document, ordinal=entry.ordinal
            )
        )

    def _scan(self, here: Position, type_: str) -> list[Message]:
        for row in range(here.row, len(IDS)):
            document = self.mongo.live.get((type_, IDS[row]))
            if document is not None:
                self._pass(here._replace(row=row + 1))
                return self.encode(
                    CapturedChange(
                        "snapshot", type_, here.start, IDS[row], document, ordinal=MAX_ORDINAL
                    )
                )
        assert here.collection is not None
        if here.collection + 1 < len(TYPES):
            self._pass(here._replace(collection=here.collection + 1, row=0))
        else:
            line = bisect_left([entry.version for entry in self.mongo.oplog], here.start)
            self._pass(Position(here.start, line=line, ignored=here.ignored))
        return self.encode(CapturedChange("drop", type_, here.start - 1, ordinal=MAX_ORDINAL))

    def _pass(self, position: Position) -> None:
        self._passed.append((position, sys.maxsize))
