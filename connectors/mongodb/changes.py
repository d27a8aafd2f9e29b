"""The events of the change stream, as changes."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import DatetimeMS, Timestamp
from bson.tz_util import utc

from models import CapturedChange

# the very time zone that the driver gives to dates: between two of the same, none is asked
_EPOCH = datetime(1970, 1, 1, tzinfo=utc)
_MILLISECOND = timedelta(milliseconds=1)
_DOCUMENT_EVENTS = ("insert", "update", "replace")
_DROP_EVENTS = ("drop", "rename", "dropDatabase")


def renamed_into(event: Mapping[str, Any], collections: Sequence[str]) -> bool:
    """Whether a collection became a registered one: its documents show up in no other event."""
    return event["operationType"] == "rename" and event["to"]["coll"] in collections


def changes_of(
    event: Mapping[str, Any], collections: Sequence[str], propagate_drops: bool, ordinal: int
) -> list[CapturedChange]:
    """The meaning of an event: one change, none, or the drop of one or of all collections.

    :param ordinal: its place among the events of the same cluster time
    """
    op = event["operationType"]
    version = version_of(event["clusterTime"])
    name = event.get("ns", {}).get("coll", "")
    committed_ms = _milliseconds(event.get("wallTime"))
    if op in _DOCUMENT_EVENTS:
        document = event.get("fullDocument")
        if document is None:  # it is gone by now, and its delete follows
            return []
        id_ = event["documentKey"]["_id"]
        return [CapturedChange(op, name, version, id_, document, committed_ms, ordinal)]
    if op == "delete":
        id_ = event["documentKey"]["_id"]
        return [CapturedChange(op, name, version, id_, None, committed_ms, ordinal)]
    if op in _DROP_EVENTS and propagate_drops:
        gone = collections if op == "dropDatabase" else [name]
        return [
            CapturedChange("drop", each, version, committed_ms=committed_ms, ordinal=ordinal)
            for each in gone
            if each in collections
        ]
    return []


def version_of(time: Timestamp) -> int:
    """ClusterTime as one integer: seconds << 32 | increment."""
    return (time.time << 32) | time.inc


def _milliseconds(wall_time: Any) -> int:
    if isinstance(wall_time, DatetimeMS):
        return int(wall_time)
    if wall_time is None:
        return 0
    return int((wall_time - _EPOCH) // _MILLISECOND)
