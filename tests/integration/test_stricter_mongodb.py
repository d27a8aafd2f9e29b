"""The capture against a server as strict as a real one: see `tests.mongodb_proxy`."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from connectors.mongodb import beginning, cluster_time, find_again, scan_documents
from models import CapturedChange
from models.stored import Key
from ops.mongo_server import MongoServer
from tests.conftest import Place
from tests.integration.test_mongodb import COLLECTIONS, Run, drops, snapshot_done
from tests.mongodb_proxy import Answer, StricterMongoDB

CALLS = ("find", "update", "aggregate", "getMore", "findAndModify", "insert", "delete")


def port_of(uri: str) -> int:
    return int(parse_uri(uri)["nodelist"][0][1])


@pytest.fixture
def strict(place: Place) -> Iterator[StricterMongoDB]:
    with StricterMongoDB(port_of(place.mongo_uri)) as proxy:
        yield proxy


@pytest.fixture
def here(place: Place, strict: StricterMongoDB) -> Place:
    """The place behind the proxy."""
    return replace(place, mongo_uri=strict.uri)


def live(seen: list[CapturedChange]) -> list[tuple[str, Any]]:
    return [(c.op, c.id) for c in seen if c.op not in ("snapshot", "drop")]


@pytest.mark.parametrize("skip", range(2, 9))
def test_an_election_while_lost_history_is_dealt_with_leaves_no_dead_thread(
    here: Place, strict: StricterMongoDB, skip: int
) -> None:
    """Four calls in a row fail, with each that comes before, in and after the handling first."""
    here.database.posts.insert_one({"_id": 1, "content": "x"})
    Run(here).until(snapshot_done)
    damaged = {"$set": {"token": {"_data": "00"}}}
    assert here.checkpoints.update_one({}, damaged).modified_count == 1
    answer = list(Answer)[skip % len(Answer)]
    strict.faults.fail(CALLS, answer, skip=skip, times=4)
    seen = Run(here).until(lambda s: snapshot_done(s) and not strict.faults.pending)
    assert [c.id for c in seen if c.op == "snapshot"][:1] == [1]
    assert len(strict.faults.fired) == 4


@pytest.mark.parametrize("end", ["drop", "rename"])
def test_the_end_of_a_foreign_collection_is_no_position(
    here: Place, strict: StricterMongoDB, end: str
) -> None:
    """A stream that matches would not return its event, so its token is refused: 280."""
    database = here.database
    database.drafts.insert_one({"_id": 1})
    run = Run(here, on_lost_history="fail")

    def write(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            database.posts.insert_one({"_id": 1, "content": "x"})
            if end == "drop":
                database.drafts.drop()
            else:
                database.drafts.rename("old_drafts")
        elif change.id == 1:
            database.notes.insert_one({"_id": 1})
            database.posts.insert_one({"_id": 2, "content": "x"})

    seen = run.until(lambda s: snapshot_done(s) and ("insert", 2) in live(s), write)
    assert live(seen) == [("insert", 1), ("insert", 2)]
    database.posts.insert_one({"_id": 3, "content": "x"})
    assert live(Run(here, on_lost_history="fail").until(bool)) == [("insert", 3)]
    assert not strict.refused_by_history


def test_a_position_after_a_split_event_is_resumed_by_a_stream_that_splits(
    here: Place, strict: StricterMongoDB
) -> None:
    here.database.posts.insert_one({"_id": 1, "a": "x", "b": "y" * 7_000_000})
    run = Run(here)

    def grow(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            here.database.posts.update_one({"_id": 1}, {"$set": {"a": "z" * 8_000_000}})

    strict.history.max_event_bytes = 2**24
    run.until(lambda s: s[-1].op == "update", grow)
    assert (here.checkpoints.find_one() or {})["split"]
    here.database.posts.insert_one({"_id": 2, "content": "x"})
    assert live(Run(here, on_lost_history="fail").until(bool)) == [("insert", 2)]
    assert strict.refused_by_history == [10334]


def test_an_event_that_an_old_server_cannot_send_is_read_without_its_document(
    here: Place, strict: StricterMongoDB
) -> None:
    """Before 6.0.9 no stage splits: the position moves past it all the same."""
    strict.history.splits = False
    strict.history.max_event_bytes = 300_000
    run = Run(here)
    large = {"_id": 2, "content": "x" * 200_000}

    def write(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            posts = here.database.posts
            posts.insert_one({"_id": 1, "content": "x"})
            posts.insert_one(large)
            posts.update_one({"_id": 2}, {"$set": {"content": "y" * 200_000}})
            posts.insert_one({"_id": 3, "content": "x" * 400_000})
            posts.delete_one({"_id": 3})
            posts.insert_one({"_id": 4, "content": "x"})

    seen = run.until(lambda s: s[-1].id == 4, write)
    assert [one for one in live(seen) if one[1] != 3] == [
        ("insert", 1), ("insert", 2), ("update", 2), ("insert", 4),
    ]  # fmt: skip
    update = next(c for c in seen if c.op == "update")
    assert update.document == {"_id": 2, "content": "y" * 200_000}
    assert ("delete", 3) in live(seen)
    assert 10334 in strict.refused_by_history
    here.database.posts.insert_one({"_id": 5, "content": "x"})
    assert live(Run(here, on_lost_history="fail").until(bool)) == [("insert", 5)]


def test_a_snapshot_may_take_longer_than_the_history_reaches(
    here: Place, strict: StricterMongoDB, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows take fifteen seconds, a change stays for six in the history."""
    strict.history.window_s = 6
    strict.lag.page_s = 1
    here.database.posts.insert_many([{"_id": i, "content": "x"} for i in range(7000)])
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.wait(0.05):
            number += 1
            here.database.drafts.insert_one({"n": number})
            here.database.articles.replace_one({"_id": 1}, {"content": number}, upsert=True)

    writer = threading.Thread(target=write)
    writer.start()
    began = time.monotonic()
    try:
        with caplog.at_level(logging.INFO, "connectors"):
            seen = Run(here).until(snapshot_done, within_s=90)
    finally:
        done.set()
        writer.join()
    assert time.monotonic() - began > 2 * strict.history.window_s
    rows = [c for c in seen if c.op == "snapshot"]
    assert {c.id for c in rows if c.collection == "posts"} == set(range(7000))
    assert len({c.version for c in rows}) == 1
    between = seen[seen.index(rows[0]) : seen.index(rows[-1])]
    assert {c.op for c in between} >= {"replace", "snapshot"}, "they take turns"
    assert "history is lost" not in caplog.text
    assert not strict.refused_by_history


def test_a_restart_in_the_middle_of_a_snapshot_goes_on_with_both(
    here: Place, strict: StricterMongoDB
) -> None:
    here.database.posts.insert_many([{"_id": i, "content": "x"} for i in range(3000)])
    run = Run(here, batch_size=100)

    def write(change: CapturedChange) -> None:
        if change.id == 50:
            here.database.articles.insert_one({"_id": "a", "content": "x"})

    def half(seen: list[CapturedChange]) -> bool:
        return len(seen) > 1500 and ("insert", "a") in live(seen)

    first = run.until(half, write)
    strict.history.prune(before=(here.checkpoints.find_one() or {})["time"])
    second = Run(here, on_lost_history="fail").until(snapshot_done)
    rows = [c for c in (*first, *second) if c.op == "snapshot" and c.collection == "posts"]
    assert [c.id for c in rows] == list(range(3000)), "no row is read twice, and none is left out"
    assert ("insert", "a") not in live(second)


@pytest.fixture
def lagging(place: Place, tmp_path: Path) -> Iterator[StricterMongoDB]:
    """In front of the server, and of one that has the three posts that were there before."""
    with MongoServer(tmp_path / "behind") as behind:
        posts = [{"_id": id_, "content": "x"} for id_ in range(3)]
        for uri in (place.mongo_uri, behind.uri):
            MongoClient[dict[str, Any]](uri)[place.database.name].posts.insert_many(posts)
        with StricterMongoDB(port_of(place.mongo_uri), behind.port) as proxy:
            before = cluster_time(place.database.client, place.database.name, "posts").committed
            place.database.posts.delete_one({"_id": 0})
            proxy.lag.begin(before)
            yield proxy


@pytest.mark.parametrize("after_reads", [0, 1])
@pytest.mark.parametrize("preferred", ["primary", "secondary"])
def test_a_delete_just_before_a_snapshot_is_not_missed_where_reads_lag(
    place: Place, lagging: StricterMongoDB, preferred: str, after_reads: int
) -> None:
    """Either the scan has seen it, or the stream brings it."""
    lagging.lag.begin(lagging.lag.since, after_reads=after_reads)
    uri = f"{lagging.uri}&readPreference={preferred}"
    run = Run(replace(place, mongo_uri=uri))

    def write(change: CapturedChange) -> None:
        if change.op == "drop" and drops(run.seen) == 2:
            place.database.posts.insert_one({"_id": "last", "content": "x"})

    seen = run.until(lambda s: snapshot_done(s) and ("insert", "last") in live(s), write)
    rows = {c.id for c in seen if c.op == "snapshot"}
    assert rows >= {1, 2}
    assert 0 not in rows or ("delete", 0) in live(seen)
    assert lagging.lag.served


def test_reconcile_scans_nothing_older_than_its_time_and_reads_again(
    place: Place, lagging: StricterMongoDB
) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(f"{lagging.uri}&readPreference=secondary")
    name = place.database.name
    now = cluster_time(place.database.client, name, "posts").committed
    found = {change.id for change in scan_documents(client, name, COLLECTIONS, now)}
    assert found == {1, 2}
    place.database.posts.insert_one({"_id": "new", "content": "x"})
    after = cluster_time(place.database.client, name, "posts").committed
    keys = [Key("posts", "new"), Key("posts", "0")]
    (again,) = find_again(client, name, keys, after, {keys[1]: 0})
    assert (again.id, again.document) == ("new", {"_id": "new", "content": "x"})
    client.close()


@pytest.mark.parametrize("seconds", [3600, 30])
def test_a_router_whose_clock_lags_is_no_cluster_whose_time_went_back(
    here: Place, strict: StricterMongoDB, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "_LOOK_AGAIN_S", 0.3)
    here.database.articles.insert_one({"_id": 1, "content": "x"})
    Run(here).until(snapshot_done)
    here.database.articles.insert_one({"_id": 2, "content": "x"})
    strict.lag.clock_s = seconds
    recovers = threading.Timer(0.8, lambda: setattr(strict.lag, "clock_s", 0))
    recovers.start()
    assert live(Run(here, on_lost_history="fail").until(bool)) == [("insert", 2)]
    recovers.join()
