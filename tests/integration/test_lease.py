"""One capture for each pipeline: standby, takeover, migration, and an owner that lost its lease."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from connectors.mongodb import capture as captures
from connectors.mongodb import lease as leases
from connectors.mongodb import pipeline_name
from connectors.mongodb.checkpoints import checkpoints_of
from connectors.mongodb.lease import Lease
from connectors.mongodb.owner import Owner
from connectors.mongodb.server import CODEC
from models.errors import ConnectorFailedError
from tests.conftest import Place
from tests.integration.test_mongodb import Run, snapshot_done
from tests.processes import FlowProcess

Document = dict[str, Any]


def checkpoints(place: Place) -> "Collection[Any]":
    return checkpoints_of(MongoClient(place.mongo_uri), f"cdc_{place.name}", CODEC)


def lease(place: Place) -> Lease:
    return Lease(checkpoints(place), place.pipeline, f"cdc/{place.database.name}")


def taken_within(seconds: float, one: Lease) -> float:
    began = time.monotonic()
    while not one.take():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def wait_for(what: Callable[[], Any], seconds: float) -> float:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def waiting(place: Place) -> list[Any]:
    """The `entry_id` of each message but those of drops."""
    bodies = [json.loads(body) for _, body in place.messages(place.queue)]
    return [body["entry_id"] for body in bodies if "entry_id" in body]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be proven of another owner, and waits are short."""
    monkeypatch.setattr(Owner, "is_gone", lambda _: False)
    monkeypatch.setattr(leases, "_STILL_S", 0.5)


@pytest.fixture
def all_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every owner can be proven to be dead."""
    monkeypatch.setattr(Owner, "is_gone", lambda _: True)


def test_a_standby_says_so_once_and_takes_over_after_a_kill(place: Place) -> None:
    logs = place.folder
    with (
        FlowProcess("flows.cdc", place.environment, logs / "one.log") as one,
        FlowProcess("flows.cdc", place.environment, logs / "other.log") as other,
    ):
        place.database.posts.insert_one({"_id": "a", "content": "x"})
        wait_for(lambda: "standby: " in one.output() + other.output(), 30)
        owner, standby = (other, one) if "standby: " in one.output() else (one, other)
        wait_for(lambda: place.checkpoints.find_one({"phase": "stream"}), 20)
        assert waiting(place) == ["a"], "a standby publishes nothing"
        owner.kill()
        place.database.posts.insert_one({"_id": "b", "content": "x"})
        assert wait_for(lambda: "b" in waiting(place), 15) < 15
        assert standby.output().count("standby: ") == 1
        assert standby.output().count("owns") == 1
        assert standby.terminate() == 0
    document = place.checkpoints.find_one({"_id": place.pipeline})
    assert document is not None
    assert "owner" not in document, "an orderly end gives the pipeline back"


def test_a_restart_after_a_kill_does_not_wait(place: Place) -> None:
    log = place.folder / "cdc.log"
    with FlowProcess("flows.cdc", place.environment, log) as first:
        wait_for(lambda: place.checkpoints.find_one({"phase": "stream"}), 30)
        first.kill()
    place.database.posts.insert_one({"_id": "a", "content": "x"})
    with FlowProcess("flows.cdc", place.environment, log) as again:
        again.wait_ready()
        assert wait_for(lambda: "a" in waiting(place), 8) < 8
        assert "standby: " not in again.output()


def test_two_pipelines_on_one_database_have_two_positions(place: Place) -> None:
    """The second one takes its own snapshot, and moves no position but its own."""
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    Run(place).until(snapshot_done)
    stored = place.checkpoints.find_one({"_id": place.pipeline})
    other = Run(place, pipeline=pipeline_name(place.database.name, "/", "another queue"))
    place.database.posts.insert_one({"_id": 2, "content": "x"})
    seen = other.until(snapshot_done)
    assert [c.id for c in seen if c.op == "snapshot"] == [1, 2]
    assert place.checkpoints.find_one({"_id": place.pipeline}) == stored
    assert [c.id for c in Run(place).until(bool)] == [2]


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b/c", "d"), ("a", "b", "c/d")), (("a", "/", "q"), ("a", "", "%2F/q"))],
)
def test_no_choice_of_names_makes_two_pipelines_meet(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert pipeline_name(*one) != pipeline_name(*other)


@pytest.mark.usefixtures("elsewhere")
def test_a_lease_whose_owner_stands_still_is_taken_and_one_that_lives_is_not(
    place: Place,
) -> None:
    owner, standby = lease(place), lease(place)
    assert owner.take()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        owner.beat()
        assert not standby.take()
        time.sleep(0.05)
    assert taken_within(5, standby) >= 0.4


@pytest.mark.usefixtures("elsewhere")
def test_a_capture_with_nothing_to_do_keeps_its_pipeline(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counter goes on although it stores no position."""
    monkeypatch.setattr(captures, "BEAT_S", 0.1)
    monkeypatch.setattr(leases, "_STILL_S", 2.0)
    source = Run(place).source
    partition = source.build_part("in", "changes", None)
    wait_for(lambda: place.checkpoints.find_one({"owner": {"$exists": True}}), 20)
    standby = lease(place)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        partition.next_batch()
        assert not standby.take()
        time.sleep(0.05)
    source.close()


@pytest.mark.usefixtures("elsewhere")
def test_only_what_was_watched_counts_as_standing_still(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that was asleep, or could not reach the server, knows nothing of that time."""
    monkeypatch.setattr(leases, "POLL_S", 0.1)
    owner, standby = lease(place), lease(place)
    assert owner.take()
    assert not standby.take()
    time.sleep(1.0)
    assert not standby.take()
    assert taken_within(5, standby) >= 0.4


@pytest.mark.usefixtures("elsewhere")
def test_an_owner_that_lost_its_lease_moves_no_position(place: Place) -> None:
    """Paused or cut off for longer than others wait: it ends, with one line."""
    run = Run(place)

    def lose(change: Any) -> None:
        if change.op == "drop" and change.collection == "articles":
            taken_by_another(place)
            stored.update(place.checkpoints.find_one() or {})
            place.database.posts.insert_one({"_id": 1, "content": "x"})

    stored: Document = {}
    with pytest.raises(RuntimeError) as caught:
        run.until(lambda _: False, lose)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConnectorFailedError):
        cause = cause.__cause__ or cause.__context__
    assert "another capture has taken" in str(cause)
    assert "\n" not in str(cause)
    after = place.checkpoints.find_one() or {}
    assert (after["scans"], after["token"]) == (stored["scans"], stored["token"])


def test_a_capture_that_lost_its_lease_ends_also_when_it_has_nothing_to_store(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "BEAT_S", 0.1)
    source = Run(place).source
    partition = source.build_part("in", "changes", None)
    wait_for(lambda: place.checkpoints.find_one({"owner": {"$exists": True}}), 20)
    taken_by_another(place)

    def has_ended() -> bool:
        partition.next_batch()
        return False

    with pytest.raises(ConnectorFailedError, match="another capture has taken"):
        wait_for(has_ended, 20)
    source.close()


def taken_by_another(place: Place) -> None:
    somebody = Owner.here()._asdict()
    assert place.checkpoints.update_one({}, {"$set": {"owner": somebody}}).modified_count == 1


def test_a_position_of_the_first_release_is_that_of_the_first_pipeline_that_finds_it(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    Run(place).until(snapshot_done)
    as_in_the_first_release(place)
    place.database.posts.insert_one({"_id": 2, "content": "x"})
    with caplog.at_level(logging.INFO, "connectors"):
        assert [c.id for c in Run(place).until(bool)] == [2]
    assert "is now that of" in caplog.text
    other = Run(place, pipeline=pipeline_name(place.database.name, "/", "another queue"))
    assert [c.id for c in other.until(snapshot_done) if c.op == "snapshot"] == [1, 2]
    assert place.checkpoints.count_documents({}) == 2


def as_in_the_first_release(place: Place) -> None:
    document = place.checkpoints.find_one({"_id": place.pipeline})
    assert document is not None
    fields = (
        "phase", "start", "collection", "token", "invalidated", "time", "fingerprint", "updated_at",
    )  # fmt: skip
    old = {name: document[name] for name in fields}
    place.checkpoints.delete_many({})
    place.checkpoints.insert_one({"_id": f"cdc/{place.database.name}", "last_id": None, **old})


class Dying:
    """A collection whose caller dies at one of its calls, before or after it takes effect."""

    def __init__(self, collection: Any, at: int, effective: bool) -> None:
        self._collection = collection
        self._left = at
        self._effective = effective
        self.died = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)

        def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left:
                return method(*arguments)
            self.died = True
            if self._effective:
                method(*arguments)
            raise AutoReconnect("killed here")

        return call


@pytest.mark.usefixtures("all_gone")
@pytest.mark.parametrize("effective", [False, True])
def test_a_migration_that_was_killed_at_any_step_is_finished_and_belongs_to_one(
    place: Place, effective: bool
) -> None:
    former = f"cdc/{place.database.name}"
    names = [pipeline_name("twin", "/", queue) for queue in ("heir", "other")]
    for step in range(1, 20):
        collection = checkpoints(place)
        collection.delete_many({})
        collection.insert_one({"_id": former, "phase": "stream", "start": "here"})
        dying = Dying(collection, step, effective)
        try:
            Lease(dying, names[0], former).take()  # type: ignore[arg-type]
        except AutoReconnect:
            assert dying.died
        assert Lease(collection, names[0], former).take()
        assert Lease(collection, names[1], former).take()
        positions = [(collection.find_one({"_id": name}) or {}).get("start") for name in names]
        assert positions == ["here", None]
        assert collection.count_documents({}) == 2
        if not dying.died:
            return
    raise AssertionError("it has more steps than were tried")
