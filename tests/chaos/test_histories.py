"""Generated histories: whatever is written, killed, repeated or late, the store converges.

A model of MongoDB, of the capture and of the broker stands in front of the real steps, the real
`Indexer` and an embedded store. What it can do is what the real ones do, and no more:

- the changes of a document reach one queue in their order; a transaction's share a cluster time,
  and are told apart by their ordinals
- an `update` carries the document as it is when the change is read, not when it was made
- a capture that restarts repeats everything after its checkpoint; a snapshot goes on after its
  last row; lost history begins another one, whose rows carry the version read before the scan
- a publisher that reconnects repeats what was not confirmed, and any message may come once more
  much later
- a consumer that dies gets everything again that it had not acknowledged, marked as redelivered,
  before what the queue has not given out yet; what it had got beyond its last batch is marked, too
- the indexer may be killed before any write, and while one worker is between two calls of the
  store another may apply a whole batch from another queue
- the store may refuse any write for what it holds; in the end it takes everything
- the store may meet a limit, or carry out a write and lose its connection before the answer
- any dead letter may be replayed at any time, and reconciliation may run at any time
- the broker may have an alarm, which stops publishers only, and queues may be full; the product's
  own publisher stands before them, and what it has not confirmed is lost with its process
- a second pipeline may live on the same servers; neither touches what the other one stores
- the features flow may come back with another model of the same size

`HYPOTHESIS_PROFILE=soak` runs thousands of histories instead of some dozens. `HISTORIES` says how
many; the line "history 7 shows it" of a failure says how many it took.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories.machine import MACHINES, Histories
from tests.histories.world import EMBEDDER, World

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SETTINGS = settings(
    max_examples=int(os.environ.get("HISTORIES", "3000" if SOAK else "15")),
    stateful_step_count=60 if SOAK else 40,
    derandomize=not SOAK,
    deadline=None,
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.patience.time.sleep", lambda _: None)


A, SEVEN = ("posts", "a"), ("posts", 7)
"""Documents of queue 0 and of queue 1."""


def text(*words: str) -> dict[str, Any]:
    return {"content": {str(number): word for number, word in enumerate(words)}}


@pytest.fixture
def begin() -> Iterator[Callable[[int], World]]:
    """Makes worlds of four queues in which A is stored."""
    worlds: list[World] = []

    def make(workers: int = 1) -> World:
        worlds.append(world := World(4, workers))
        world.mongo.commit([("insert", A, text("one"))])
        world.synchronise()
        return world

    yield make
    for world in worlds:
        world.close()


def test_killed_before_a_drop_that_comes_by_another_queue(begin: Callable[[int], World]) -> None:
    """The chunks written before the kill are named by no record, and the redelivered change that
    would clear them away is older than the drop.
    """
    for write in range(4):
        world = begin(1)
        world.mongo.commit([("replace", A, text("two"))])
        world.mongo.drop("posts")
        world.emit()
        world.index_and_kill(0, 1, write, prefetched=0)
        world.index(1)
        world.drain()
        assert world.differences() == [], write


def test_killed_within_a_drop_that_comes_by_another_queue(begin: Callable[[int], World]) -> None:
    """The record still names chunks that are gone, and a snapshot row, never delivered before,
    trusts it.
    """
    for write in range(5):
        world = begin(1)
        world.mongo.commit([("insert", SEVEN, text("two"))])
        world.capture.lose_history()
        world.emit()
        world.index(1, 1)
        world.index_and_kill(1, 1, write, prefetched=0)
        world.index(0)
        world.drain()
        assert world.differences() == [], write


def test_a_snapshot_through_two_workers(begin: Callable[[int], World]) -> None:
    """While one applies a row, the other one gets to the drop after its own rows."""
    for call in range(8):
        world = begin(2)
        world.mongo.commit([("insert", SEVEN, text("two"))])
        world.capture.lose_history()
        world.emit()
        world.index_two(0, 1, call, 1, 3)
        world.drain()
        assert world.differences() == [], call


def test_a_drop_and_a_new_document_through_two_workers(begin: Callable[[int], World]) -> None:
    """While one carries out the drop, the other one is already past it."""
    for call in range(8):
        world = begin(2)
        world.mongo.drop("posts")
        world.mongo.commit([("insert", A, text("one"))])
        world.emit()
        world.index_two(1, 1, call, 0, 2)
        world.drain()
        assert world.differences() == [], call


def test_a_snapshot_takes_nothing_away_in_between(begin: Callable[[int], World]) -> None:
    """No empty window, and no embedding of what has not changed."""
    world = begin(1)
    world.mongo.commit([("insert", SEVEN, text("two"))])
    world.capture.lose_history()
    world.emit()
    embedded = EMBEDDER.encoded
    world.index(1)
    assert world.qdrant.count("cleaned_posts").count == 2
    world.drain()
    assert EMBEDDER.encoded - embedded == 1


@pytest.mark.parametrize("machine", MACHINES)
def test_every_history_converges(machine: type[Histories]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)
