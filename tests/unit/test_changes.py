"""Events of the change stream as changes, and the bounds of what is held and sent."""

from datetime import datetime, timezone
from typing import Any

import pytest
from bson import Timestamp

from connectors.mongodb.changes import changes_of, renamed_into
from connectors.mongodb.stages import Reassembly
from connectors.qdrant.requests import bounded

TIME = Timestamp(100, 7)
COLLECTIONS = ["posts", "articles"]


def event(op: str, **fields: Any) -> dict[str, Any]:
    ns = {"db": "twin", "coll": "posts"}
    return {"_id": {"_data": "t"}, "operationType": op, "clusterTime": TIME, "ns": ns, **fields}


def test_fragments_of_a_split_event_make_one() -> None:
    whole = Reassembly()
    first = event("update", fullDocument={"_id": 1}, splitEvent={"fragment": 1, "of": 2})
    last = {"_id": {"_data": "u"}, "updateDescription": {}, "splitEvent": {"fragment": 2, "of": 2}}
    assert whole.add(first) is None
    assert whole.pending
    complete = whole.add(last)
    assert complete is not None
    assert (complete["_id"], complete["fullDocument"]) == ({"_data": "u"}, {"_id": 1})
    assert not whole.pending
    single = event("insert", splitEvent={"fragment": 1, "of": 1})
    assert whole.add(single) == single


def test_an_update_whose_document_is_gone_says_nothing() -> None:
    gone = event("update", fullDocument=None, documentKey={"_id": 1})
    assert list(changes_of(gone, COLLECTIONS, propagate_drops=True, ordinal=0)) == []


@pytest.mark.parametrize("propagate", [True, False])
def test_the_end_of_a_database_is_the_drop_of_every_collection(propagate: bool) -> None:
    dropped = list(
        changes_of(event("dropDatabase"), COLLECTIONS, propagate_drops=propagate, ordinal=0)
    )
    assert [change.collection for change in dropped] == (COLLECTIONS if propagate else [])
    assert all(change.version == (100 << 32) | 7 for change in dropped)


def test_only_a_rename_into_place_is_read_whole() -> None:
    assert renamed_into(event("rename", to={"db": "twin", "coll": "posts"}), COLLECTIONS)
    assert not renamed_into(event("rename", to={"db": "twin", "coll": "archive"}), COLLECTIONS)


def test_requests_are_bounded_by_count_and_bytes() -> None:
    sizes = [3, 3, 3, 9, 1]
    assert list(bounded(sizes, lambda size: size, max_count=2, max_bytes=8)) == [
        [3, 3], [3], [9], [1],
    ]  # fmt: skip


def test_the_moment_of_a_commit_is_in_milliseconds() -> None:
    moment = datetime(2026, 11, 20, 20, 26, 9, 123_999, tzinfo=timezone.utc)
    inserted = event("insert", fullDocument={"_id": 1}, documentKey={"_id": 1}, wallTime=moment)
    [change] = changes_of(inserted, COLLECTIONS, propagate_drops=True, ordinal=0)
    assert change.committed_ms == int(moment.timestamp() * 1000) == 1795206369123
