"""Where the capture stands, stored in MongoDB itself (`MONGO_CHECKPOINT_DATABASE`)."""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from bson import Timestamp
from pymongo.collection import Collection

SNAPSHOT = "snapshot"
STREAM = "stream"


class Position(NamedTuple):
    """A place between two changes, from which a capture can go on."""

    phase: str
    """`snapshot` or `stream`."""
    start: Timestamp
    """Cluster time read before the first row of the snapshot; the stream begins there."""
    collection: str | None = None
    """Collection being scanned; None before the first one."""
    last_id: tuple[Any] | None = None
    """The `_id` of the last row handed on, boxed, since it may be null; None before the first."""
    token: Mapping[str, Any] | None = None
    """Resume token; None while the stream has shown none."""
    invalidated: bool = False
    """The token is that of an invalidate event, behind which only startAfter goes on."""
    time: Timestamp | None = None
    """Cluster time of the last change, to tell a cluster whose history is another."""

    def to_document(self) -> dict[str, Any]:
        """Its form in the checkpoint collection."""
        return {
            "phase": self.phase,
            "start": self.start,
            "collection": self.collection,
            "last_id": None if self.last_id is None else list(self.last_id),
            "token": self.token,
            "invalidated": self.invalidated,
            "time": self.time,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Position":
        """Read what `to_document` made."""
        last_id = document.get("last_id")
        return cls(
            phase=document["phase"],
            start=document["start"],
            collection=document.get("collection"),
            last_id=None if last_id is None else (last_id[0],),
            token=document.get("token"),
            invalidated=bool(document.get("invalidated")),
            time=document.get("time"),
        )

    def scanning(self, collection: str, last_id: tuple[Any] | None = None) -> "Position":
        """The position behind a row of a snapshot, or before the first of a collection."""
        return self._replace(collection=collection, last_id=last_id)

    def streaming(self) -> "Position":
        """The position at the end of a snapshot."""
        return Position(STREAM, self.start, time=self.start)


class Checkpoints:
    """One document that holds a position.

    :param collection: where it is kept
    :param name: its `_id`
    :param fingerprint: of everything that must not change between two runs
    """

    def __init__(self, collection: "Collection[Any]", name: str, fingerprint: str) -> None:
        self._collection = collection
        self._name = name
        self._fingerprint = fingerprint

    def load(self) -> tuple[Position | None, bool]:
        """The stored position, and whether its fingerprint is still ours."""
        document = self._collection.find_one({"_id": self._name})
        if document is None:
            return None, True
        return Position.from_document(document), document.get("fingerprint") == self._fingerprint

    def store(self, position: Position) -> None:
        """Replace the stored position."""
        document = position.to_document()
        document["fingerprint"] = self._fingerprint
        document["updated_at"] = datetime.now(timezone.utc)
        self._collection.replace_one({"_id": self._name}, document, upsert=True)
