"""Where a capture stands: a place in the change stream, and what is still to be scanned."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bson import Timestamp

SNAPSHOT = "snapshot"
STREAM = "stream"


class Scan(NamedTuple):
    """The part of a collection that is still to be read."""

    collection: str
    time: Timestamp
    """Cluster time that was read before the first row: the version of all of them."""
    last_id: tuple[Any] | None = None
    """The `_id` of the last row handed on, boxed, since it may be null; None before the first."""


class StreamPosition(NamedTuple):
    """A place between two events of the change stream."""

    start: Timestamp
    """Cluster time at which the stream begins, inclusive, while it has shown no token."""
    token: Mapping[str, Any] | None = None
    """Resume token of an event that the stream returned, or one between two batches of it."""
    invalidated: bool = False
    """The token is that of an invalidate event, after which only startAfter goes on."""
    split: bool = False
    """The token is that of a part of an event, which only a stream that splits can find."""
    time: Timestamp | None = None
    """Cluster time of the last event."""
    ordinal: int = 0
    """How many events of that cluster time were read."""


class Position(NamedTuple):
    """A place between two changes, from which a capture can go on."""

    stream: StreamPosition
    scans: tuple[Scan, ...] = ()
    """Collections that are still to be read; the first one is being read."""

    def to_document(self) -> dict[str, Any]:
        """Its form in the checkpoint collection."""
        first = self.scans[0] if self.scans else None
        return {
            "phase": SNAPSHOT if first else STREAM,
            "collection": first.collection if first else None,
            **self.stream._asdict(),
            "scans": [
                {
                    "collection": scan.collection,
                    "time": scan.time,
                    "last_id": None if scan.last_id is None else list(scan.last_id),
                }
                for scan in self.scans
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], collections: Sequence[str]) -> "Position":
        """Read what `to_document` made, or the first release.

        :param collections: the registered ones, which a snapshot of the first release read in
            this order
        """
        stream = StreamPosition(
            start=document["start"],
            token=document.get("token"),
            invalidated=bool(document.get("invalidated")),
            split=bool(document.get("split")),
            time=document.get("time"),
            ordinal=document.get("ordinal", 0),
        )
        scans = document.get("scans")
        if scans is None and document["phase"] == SNAPSHOT:
            return cls(stream, _scans_of_the_first_release(document, collections))
        return cls(
            stream,
            tuple(Scan(scan["collection"], scan["time"], _boxed(scan)) for scan in scans or ()),
        )


def _scans_of_the_first_release(
    document: Mapping[str, Any], collections: Sequence[str]
) -> tuple[Scan, ...]:
    current = document.get("collection") or collections[0]
    left = collections[collections.index(current) :]
    first = Scan(current, document["start"], _boxed(document))
    return (first, *(Scan(name, document["start"]) for name in left[1:]))


def _boxed(document: Mapping[str, Any]) -> tuple[Any] | None:
    last_id = document.get("last_id")
    return None if last_id is None else (last_id[0],)
