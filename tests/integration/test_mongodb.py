"""The change stream source against a real server."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bson
import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from connectors.mongodb import MongoChangeStreamSource, MongoDatabaseConnector, version_of
from models import MAX_ORDINAL, CapturedChange
from ops.mongo_server import MongoServer
from tests.conftest import Place
from tests.publishing import NothingToPublish

COLLECTIONS = ("posts", "articles")
_TOO_LARGE = 10334  # BSONObjectTooLarge


class Run:
    """One life of a capture: runs until `done` says so of the changes seen."""

    def __init__(
        self, place: Place, *, pipeline: str | None = None, uri: str | None = None, **options: Any
    ) -> None:
        self.stopping = threading.Event()
        self.seen: list[CapturedChange] = []
        self.source = MongoChangeStreamSource(
            uri or place.mongo_uri,
            place.database.name,
            COLLECTIONS,
            f"cdc_{place.name}",
            pipeline or place.pipeline,
            publisher=NothingToPublish(),
            stopping=self.stopping,
            **options,
        )

    def until(
        self,
        done: Callable[[list[CapturedChange]], bool],
        on_change: Callable[[CapturedChange], None] = lambda _: None,
        finish: bool = True,
        within_s: float = 20,
    ) -> list[CapturedChange]:
        def look(change: CapturedChange) -> CapturedChange:
            self.seen.append(change)
            on_change(change)
            if done(self.seen):
                self.stopping.set()
            return change

        flow = Dataflow("capture")
        op.output("out", op.map("look", op.input("in", flow, self.source), look), TestingSink([]))
        watchdog = threading.Timer(within_s, self.stopping.set)
        watchdog.start()
        run_main(flow, epoch_interval=timedelta(milliseconds=20))
        watchdog.cancel()
        if finish:
            assert self.source.finish()
            self.source.close()
        else:
            for partition in self.source._built:
                partition._capture.close()
        assert done(self.seen), self.seen
        return self.seen


def drops(seen: list[CapturedChange]) -> int:
    return sum(change.op == "drop" for change in seen)


def snapshot_done(seen: list[CapturedChange]) -> bool:
    return drops(seen) == len(COLLECTIONS)


def test_a_snapshot_reads_everything_and_then_the_changes(place: Place) -> None:
    ids: list[Any] = [
        5,
        "a",
        bson.ObjectId(),
        2.5,
        {"x": 1},
        None,
        True,
        b"bytes",
        datetime(2020, 1, 1, tzinfo=timezone.utc),
    ]
    place.database.posts.insert_many([{"_id": id_, "content": "x"} for id_ in ids])
    place.database.unregistered.insert_one({"content": "x"})

    def change_it(change: CapturedChange) -> None:
        if change.op == "drop" and change.collection == "articles":
            posts = place.database.posts
            posts.update_one({"_id": "a"}, {"$set": {"content": "y"}})
            posts.replace_one({"_id": 5}, {"content": "z"})
            posts.delete_one({"_id": 2.5})
            posts.insert_one({"_id": "new", "content": "n"})

    run = Run(place)
    seen = run.until(lambda s: s[-1].op == "insert", change_it)
    rows = [c for c in seen if c.op == "snapshot"]
    assert len(rows) == len(ids)
    assert {c.version for c in rows} == {rows[0].version}
    sweeps = [c for c in seen if c.op == "drop"]
    assert {c.version for c in sweeps} == {rows[0].version - 1}
    assert {c.ordinal for c in rows + sweeps} == {MAX_ORDINAL}
    live = [(c.op, c.id) for c in seen if c.op not in ("snapshot", "drop")]
    assert live == [("update", "a"), ("replace", 5), ("delete", 2.5), ("insert", "new")]
    versions = [c.version for c in seen if c.op not in ("snapshot", "drop")]
    assert versions == sorted(versions)
    assert versions[0] > rows[0].version
    update = next(c for c in seen if c.op == "update")
    assert update.document == {"_id": "a", "content": "y"}
    assert update.committed_ms > 1_700_000_000_000


def test_v0_is_stored_before_the_first_row_goes_out(place: Place) -> None:
    """A document deleted between two attempts at a snapshot would otherwise stay for ever."""
    place.database.posts.insert_many([{"_id": id_, "content": "x"} for id_ in range(3)])
    stored: list[dict[str, Any]] = []

    def look(_change: CapturedChange) -> None:
        stored.append(place.checkpoints.find_one({"_id": place.pipeline}) or {})

    seen = Run(place).until(snapshot_done, look)
    assert stored[0].get("start") is not None
    assert version_of(stored[0]["start"]) == seen[0].version


def test_a_restart_goes_on_where_it_stopped(place: Place) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    Run(place).until(snapshot_done)
    place.database.posts.insert_one({"_id": 2, "content": "x"})
    place.database.posts.delete_one({"_id": 1})
    seen = Run(place).until(lambda s: len(s) == 2)
    assert [(c.op, c.id) for c in seen] == [("insert", 2), ("delete", 1)]


def test_a_snapshot_goes_on_in_the_middle_across_id_types(place: Place) -> None:
    ids: list[Any] = [*range(3000), "a", "b", bson.ObjectId()]
    place.database.posts.insert_many([{"_id": id_, "content": "x"} for id_ in ids])
    first = Run(place, batch_size=100).until(lambda s: len(s) >= 1500, finish=False)
    place.database.posts.delete_one({"_id": 0})
    second = Run(place).until(lambda s: snapshot_done(s) and any(c.op == "delete" for c in s))
    rows = [c for c in second if c.op == "snapshot"]
    assert 0 < len(rows) < len(ids)
    assert {c.id for c in first} | {c.id for c in rows} >= set(ids)
    assert rows[0].version == first[0].version
    assert [c.id for c in second if c.op == "delete"] == [0]


def test_never_begins_with_changes_from_now_on(place: Place) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    run = Run(place, snapshot="never")
    writer = threading.Timer(1.0, lambda: place.database.posts.insert_one({"_id": 2}))
    writer.start()
    assert [c.id for c in run.until(bool)] == [2]


def test_always_reads_everything_at_each_start(place: Place) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    for _ in range(2):
        seen = Run(place, snapshot="always").until(snapshot_done)
        assert [c.op for c in seen if c.collection == "posts"] == ["snapshot", "drop"]


def test_drops_propagate_and_an_invalidated_stream_goes_on(place: Place) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    client = place.database.client

    def fault(change: CapturedChange) -> None:
        if change.op == "drop" and change.collection == "articles" and drops(run.seen) == 2:
            client.drop_database(place.database.name)
            place.database.posts.insert_one({"_id": 2, "content": "y"})

    run = Run(place)
    seen = run.until(lambda s: s[-1].op == "insert", fault)
    assert seen[-1].id == 2
    dropped = {c.collection for c in seen[3:] if c.op == "drop"}
    assert dropped == set(COLLECTIONS)


def test_a_collection_renamed_into_place_is_read_whole(place: Place) -> None:
    place.database.drafts.insert_many([{"_id": i, "content": "x"} for i in range(3)])

    def rename(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            place.database.drafts.rename("posts")

    run = Run(place)
    seen = run.until(lambda s: drops(s) == 3, rename)
    assert [c.id for c in seen if c.op == "snapshot"] == [0, 1, 2]
    assert (seen[-1].op, seen[-1].collection) == ("drop", "posts")


@pytest.mark.parametrize("damage", ["token", "fingerprint", "future"])
def test_lost_history_is_read_again(place: Place, damage: str) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    Run(place).until(snapshot_done)
    checkpoints = place.checkpoints
    change: dict[str, Any] = {
        "token": {"token": {"_data": "00"}},
        "fingerprint": {"fingerprint": "another"},
        "future": {"time": bson.Timestamp(4_000_000_000, 1)},
    }[damage]
    assert checkpoints.update_one({}, {"$set": change}).modified_count == 1
    seen = Run(place).until(snapshot_done)
    assert [c.op for c in seen if c.collection == "posts"] == ["snapshot", "drop"]


def test_lost_history_fails_where_that_is_asked_for(place: Place) -> None:
    Run(place).until(snapshot_done)
    checkpoints = place.checkpoints
    checkpoints.update_one({}, {"$set": {"fingerprint": "another"}})
    with pytest.raises(RuntimeError) as caught:
        Run(place, on_lost_history="fail").until(bool)
    chain: list[str] = []
    cause: BaseException | None = caught.value
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    assert any("CDC_ON_LOST_HISTORY=resnapshot" in text for text in chain)


def test_an_event_larger_than_16_mb_arrives_whole(place: Place) -> None:
    """An update whose event holds the document twice: the server splits it."""
    place.database.posts.insert_one({"_id": 1, "a": "x", "b": "y" * 7_000_000})

    def grow(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            place.database.posts.update_one({"_id": 1}, {"$set": {"a": "z" * 8_000_000}})

    run = Run(place)
    seen = run.until(lambda s: s[-1].op == "update", grow)
    document = seen[-1].document
    assert document is not None
    assert (len(document["a"]), len(document["b"])) == (8_000_000, 7_000_000)


def test_a_stream_that_needs_to_split_does_so_and_misses_nothing(
    place: Place, tmp_path: Path
) -> None:
    """Events of other collections, and an error of the server that splitting may mend."""
    with MongoServer(tmp_path / "own-mongodb", extra_args=["--enable-test-commands"]) as server:
        splits_when_needed(replace(place, mongo_uri=server.uri))


def splits_when_needed(place: Place) -> None:
    run = Run(place)

    def write(change: CapturedChange) -> None:
        database = place.database
        if change.op == "drop" and drops(run.seen) == 2:
            database.posts.insert_one({"_id": 1, "content": "x"})
            database.unregistered.insert_many([{"_id": i, "content": "x"} for i in range(50)])
            database.posts.insert_one({"_id": 2, "content": "x"})
            database.unregistered.drop()
            database.posts.insert_one({"_id": 3, "content": "x"})
        elif change.id == 3:
            database.client.admin.command(
                "configureFailPoint", "failCommand", mode={"times": 1},
                data={"failCommands": ["getMore"], "errorCode": _TOO_LARGE},
            )  # fmt: skip
            database.posts.insert_one({"_id": 4, "content": "x"})
        elif change.id == 4:  # which may have come by the request before the one that fails
            database.posts.insert_one({"_id": 5, "content": "x"})

    live = [(c.op, c.id) for c in run.until(lambda s: s[-1].id == 5, write) if c.op != "drop"]
    assert live == [("insert", number) for number in (1, 2, 3, 4, 5)]
    assert run.source._built[0]._capture._reader._stream._split


def test_changes_of_one_transaction_are_counted_also_after_a_resume_inside_it(
    place: Place,
) -> None:
    """An event that yields no change counts as well: its document was gone by the lookup."""
    Run(place).until(snapshot_done)
    database = place.database
    posts = database.posts
    with database.client.start_session() as session, session.start_transaction():
        posts.insert_one({"_id": 1, "content": "x"}, session=session)
        database.unregistered.insert_one({"_id": 1}, session=session)
        posts.update_one({"_id": 1}, {"$set": {"content": "y"}}, session=session)
        posts.delete_one({"_id": 1}, session=session)
        posts.insert_one({"_id": 2, "content": "x"}, session=session)
    expected = [("insert", 1, 0), ("delete", 1, 2), ("insert", 2, 3)]
    for stop_after in (1, 2):
        stored = place.checkpoints.find_one()
        assert stored is not None
        first = Run(place, batch_size=1).until(lambda s, n=stop_after: len(s) == n)  # type: ignore[misc]
        rest = Run(place).until(lambda s: s[-1].id == 2)
        both = [*first, *rest]
        assert [(c.op, c.id, c.ordinal) for c in both] == expected
        assert len({c.version for c in both}) == 1
        place.checkpoints.replace_one({"_id": stored["_id"]}, stored)


def test_the_plain_connector_gives_a_database(place: Place) -> None:
    with MongoDatabaseConnector(place.mongo_uri, place.database.name) as database:
        database.posts.insert_one({"_id": 1})
        assert database.posts.count_documents({}) == 1
