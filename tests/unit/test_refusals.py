"""A refusal by the store or the model: a dead letter, nothing half written, nothing lost."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import TOMBSTONES, cleaned, vectors_of
from flows.operators.index import Indexer
from flows.operators.write import CHUNKS_PER_WRITE
from models.errors import ContentRefusedError
from models.plans import NewChunk, UpsertPlan
from tests.unit.test_index import PickyEmbedder, World, change

MANY = [f"word{number}" for number in range(CHUNKS_PER_WRITE + 50)]
"""Chunks of two writes."""


@pytest.fixture
def world() -> Iterator[World]:
    world = World(QdrantClient(":memory:"))
    yield world
    world.store.close()


def refuse(world: World, step: str, when: Callable[[Any], bool] = lambda what: True) -> None:
    """Have the store refuse a step, for what it is asked to write."""
    original = getattr(world.store, step)

    def refusing(what: Any, *rest: Any) -> None:
        if what and when(what):
            raise ContentRefusedError(f"{step} is refused")
        original(what, *rest)

    setattr(world.store, step, refusing)


def holds(word: str) -> Callable[[Sequence[NewChunk]], bool]:
    return lambda chunks: any(chunk.payload["content"] == word for chunk in chunks)


def accept(world: World, step: str) -> None:
    """The store takes it again."""
    delattr(world.store, step)


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("redelivered", [False, True])
def test_a_new_document_refused_midway_leaves_no_chunks(
    world: World, fenced: bool, redelivered: bool
) -> None:
    refuse(world, "upsert_chunks", holds("refused"))
    half = change(" ".join([*MANY, "refused"]), 1, fenced=fenced, redelivered=redelivered)
    assert world.apply(half) == ["dead"]
    assert world.points(vectors_of("posts")) == world.points(cleaned("posts")) == {}
    assert world.points(TOMBSTONES) == {}
    assert world.apply(change("good", 2, fenced=fenced)) == ["upserted"]
    assert world.words() == ["good"]
    assert len(world.points(vectors_of("posts"))) == 1


@pytest.mark.parametrize("fenced", [False, True])
def test_a_refusal_by_the_store_takes_nothing_away(world: World, fenced: bool) -> None:
    world.apply(change("old words stay", 1))
    before = world.points(vectors_of("posts")), world.points(cleaned("posts"))
    refuse(world, "upsert_chunks", holds("refused"))
    half = change(" ".join(["old", *MANY, "refused"]), 2, fenced=fenced, author="you")
    neighbour = change("other", 2, entry_id="b")
    assert sorted(world.apply(half, neighbour)) == ["dead", "upserted"]
    assert world.words("b") == ["other"]
    world.apply(change(None, 3, entry_id="b"))
    assert (world.points(vectors_of("posts")), world.points(cleaned("posts"))) == before


@pytest.mark.parametrize("poison", ["poison", "nan"])
def test_a_message_of_another_producer_that_the_model_refuses_midway_leaves_no_chunks(
    world: World, poison: str
) -> None:
    world.index = Indexer(world.store, PickyEmbedder())
    half = " ".join([*MANY, poison])
    assert world.apply(change(half, 1, fenced=False)) == ["dead"]
    assert world.points(vectors_of("posts")) == {}
    world.apply(change("good", 2))
    assert world.apply(change(half, 3, fenced=False)) == ["dead"]
    assert world.words() == ["good"]


def test_a_refusal_while_a_refused_change_is_taken_back_ends_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(world, "upsert_chunks", holds("refused"))
    refuse(world, "delete_chunks")
    half = change(" ".join([*MANY, "refused"]), 1)
    assert sorted(world.apply(half, change("other", 1, entry_id="b"))) == ["dead", "upserted"]
    assert "'a': parts of a refused change may be left" in caplog.text


def test_a_refusal_while_a_record_is_marked_ends_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.apply(change("a b c", 1))
    refuse(world, "upsert_records")
    refuse(world, "suspect")
    assert sorted(world.apply(change("a x y", 2), change(None, 2, entry_id="b"))) == [
        "dead", "removed",
    ]  # fmt: skip
    assert "suspect is refused" in caplog.text


def test_a_refusal_while_a_document_is_retracted_ends_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.index = Indexer(world.store, PickyEmbedder())
    refuse(world, "bury")
    assert world.apply(change("poison", 1)) == ["dead"]
    assert "bury is refused" in caplog.text


def test_a_refused_tombstone_leaves_the_document_and_its_neighbours(world: World) -> None:
    world.apply(change("a b", 1), change("c", 1, entry_id="b"))
    refuse(world, "bury", lambda removals: removals[0].key.entry_id == "a")
    assert sorted(world.apply(change(None, 2), change(None, 2, entry_id="b"))) == [
        "dead", "removed",
    ]  # fmt: skip
    assert world.words() == ["a", "b"]
    assert world.words("b") == []


@pytest.mark.parametrize("step", ["fence_type", "delete_records"])
def test_a_refused_drop_is_a_dead_letter(world: World, step: str) -> None:
    world.apply(change("a", 1))
    refuse(world, step)
    assert world.apply(change(None, 2, op="drop", entry_id="")) == ["dead"]


def of(entry_id: str) -> Callable[[Sequence[UpsertPlan]], bool]:
    return lambda plans: any(plan.key.entry_id == entry_id for plan in plans)


def test_a_new_document_whose_record_is_refused_leaves_no_chunks(world: World) -> None:
    refuse(world, "upsert_records", of("a"))
    results = world.apply(change("a b", 1), change("c", 1, entry_id="b"))
    assert sorted(results) == ["dead", "upserted"]
    assert world.words() == []
    assert world.words("b") == ["c"]


@pytest.mark.parametrize("again", ["a b c", "a x y", "z", None])
@pytest.mark.parametrize("step", ["update_chunks", "delete_chunks", "upsert_records"])
def test_an_edit_refused_halfway_is_no_trap_for_the_next_change(
    world: World, step: str, again: str | None
) -> None:
    """Chunks of the older state are gone or have new metadata by then, so its record is wrong."""
    world.apply(change("a b c", 1, author="me"))
    refuse(world, step, lambda what: True)
    assert world.apply(change("a x y", 2, author="you")) == ["dead"]
    stored = {point["content"] for point in world.points(vectors_of("posts")).values()}
    assert stored >= {"a", "b", "c"} or stored >= {"a", "x", "y"}
    accept(world, step)
    world.apply(change(again, 3, author="me"))
    assert world.words() == (again.split() if again else [])
    assert {point["author_id"] for point in world.points(vectors_of("posts")).values()} <= {"me"}
    assert "suspect" not in (world.record() or {})


@pytest.mark.parametrize("op", ["delete", "drop"])
def test_a_removal_refused_halfway_is_no_trap_for_the_next_change(world: World, op: str) -> None:
    """Its chunks are gone by then, and its record still names them."""
    world.apply(change("a b", 1), change("c", 1, entry_id="b"))
    refuse(world, "delete_records", lambda keys: keys[0].entry_id == "a" or len(keys) > 1)
    removal = change(None, 2, op="drop", entry_id="") if op == "drop" else change(None, 2)
    assert world.apply(removal) == ["dead"]
    accept(world, "delete_records")
    assert world.words("b") == ([] if op == "drop" else ["c"])
    world.apply(change("a b", 3))
    assert world.words() == ["a", "b"]


def test_a_drop_leaves_no_chunk_of_a_suspect_document(world: World) -> None:
    world.apply(change("a b c", 1))
    refuse(world, "upsert_records")
    world.apply(change("a x y", 2))
    accept(world, "upsert_records")
    assert world.apply(change(None, 3, op="drop", entry_id="")) == ["dropped"]
    assert world.points(vectors_of("posts")) == {}


def test_a_refused_change_that_touched_nothing_leaves_no_mark(world: World) -> None:
    """Of a message of another producer MongoDB may know nothing: the store stays in sync."""
    world.apply(change("a b c", 1))
    refuse(world, "upsert_chunks")
    assert world.apply(change("x", 2, fenced=False)) == ["dead"]
    assert "suspect" not in (world.record() or {})
