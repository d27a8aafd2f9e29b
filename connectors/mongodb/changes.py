"""What the server says, as changes: events of the change stream, rows of a snapshot."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import bson
from bson import DatetimeMS, Timestamp
from bson.tz_util import utc
from pymongo.collection import Collection

from models import CapturedChange

# the very time zone that the driver gives to dates: between two of the same, none is asked
_EPOCH = datetime(1970, 1, 1, tzinfo=utc)
_MILLISECOND = timedelta(milliseconds=1)
_DOCUMENT_EVENTS = ("insert", "update", "replace")
_DROP_EVENTS = ("drop", "rename", "dropDatabase")


def pipeline(collections: Sequence[str], *, matching: bool, split: bool) -> list[dict[str, Any]]:
    """Stages of the change stream.

    :param matching: whether the server keeps the events of other collections to itself: by
        equality, and but for those of their end
    :param split: whether it splits events that are larger than 16 MB
    """
    names = list(collections)
    match = {
        "$match": {
            "$or": [
                {"ns.coll": {"$in": names}},
                {"to.coll": {"$in": names}},
                {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
            ]
        }
    }
    return [match] * matching + [{"$changeStreamSplitLargeEvent": {}}] * split


def is_foreign(event: Mapping[str, Any], collections: Sequence[str]) -> bool:
    """Whether an event is of a document of a collection that is not registered."""
    return "documentKey" in event and event["ns"]["coll"] not in collections


class Reassembly:
    """Puts split events together again."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    @property
    def pending(self) -> bool:
        """Whether fragments of an event are still to come: no position lies between them."""
        return bool(self._parts)

    def add(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """One fragment, or an event that is whole.

        :returns: the whole event under the token of its last fragment; None before that
        """
        split = event.get("splitEvent")
        if split is None or split["of"] == 1:
            return event
        self._parts = event if split["fragment"] == 1 else {**self._parts, **event}
        if split["fragment"] < split["of"]:
            return None
        complete, self._parts = self._parts, {}
        return complete


def renamed_into(event: Mapping[str, Any], collections: Sequence[str]) -> bool:
    """Whether a collection became a registered one: its documents show up in no other event."""
    return event["operationType"] == "rename" and event["to"]["coll"] in collections


def changes_of(
    event: Mapping[str, Any], collections: Sequence[str], propagate_drops: bool
) -> list[CapturedChange]:
    """What an event means: one change, none, or the drop of one or of all collections."""
    op = event["operationType"]
    version = version_of(event["clusterTime"])
    name = event.get("ns", {}).get("coll", "")
    committed_ms = _milliseconds(event.get("wallTime"))
    if op in _DOCUMENT_EVENTS:
        document = event.get("fullDocument")
        if document is None:  # it is gone by now, and its delete follows
            return []
        return [
            CapturedChange(op, name, version, event["documentKey"]["_id"], document, committed_ms)
        ]
    if op == "delete":
        return [CapturedChange(op, name, version, event["documentKey"]["_id"], None, committed_ms)]
    if op in _DROP_EVENTS and propagate_drops:
        gone = collections if op == "dropDatabase" else [name]
        return [
            CapturedChange("drop", each, version, committed_ms=committed_ms)
            for each in gone
            if each in collections
        ]
    return []


def rows(
    collection: "Collection[dict[str, Any]]", last_id: tuple[Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Documents in the order of `_id`, across its BSON types.

    :param last_id: boxed `_id` of the last row that is not wanted again
    """
    cursor = collection.find().sort("_id", 1).batch_size(500)
    if last_id is None:
        yield from cursor
        return
    # $gt sees only values of one BSON type; min() crosses them, and includes its bound.
    bound = bson.encode({"": last_id[0]})
    for row in cursor.min([("_id", last_id[0])]).hint([("_id", 1)]):
        if bson.encode({"": row["_id"]}) != bound:
            yield row


def version_of(time: Timestamp) -> int:
    """ClusterTime as one integer: seconds << 32 | increment."""
    return (time.time << 32) | time.inc


def size_of(document: Mapping[str, Any]) -> int:
    """A cheap estimate of a document's bytes, good enough to bound a buffer."""
    total = 64
    nested: list[Iterable[Any]] = [document.values()]
    while nested:
        for value in nested.pop():
            if isinstance(value, str | bytes):
                total += len(value)
            elif isinstance(value, dict):  # what the driver decodes to; Mapping is slow to ask
                total += 64
                nested.append(value.values())
            elif isinstance(value, list):
                total += 16 * len(value)
                nested.append(value)
    return total


def _milliseconds(wall_time: Any) -> int:
    if isinstance(wall_time, DatetimeMS):
        return int(wall_time)
    if wall_time is None:
        return 0
    return int((wall_time - _EPOCH) // _MILLISECOND)
