"""Index planning and the one step that reads, embeds and writes, on an embedded store in memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import TOMBSTONES, QdrantStore, cleaned, vectors_of
from flows.embedding.embedder import Vectors
from flows.operators.index import Indexer
from flows.operators.plan import collapse, plan
from flows.operators.write import TRUST_S, Indexed
from models import (
    DOCUMENT_TYPES,
    ChangeEvent,
    DeadLetter,
    Delivery,
    Post,
    Section,
    Version,
    record_id,
)
from models.chunks import Piece, name_chunks
from models.plans import UpsertPlan
from models.prepared import Drop, Prepared, Removal, Upsert
from models.stored import Key, Stored
from tests.counted import CountedWrites
from tests.hashing import HashingEmbedder


def change(
    text: str | None,
    version: int,
    ordinal: int = 0,
    *,
    entry_id: str = "a",
    op: str = "update",
    redelivered: bool = False,
    fenced: bool = True,
    author: str = "me",
) -> Prepared:
    """A change of a post whose chunks are the words of `text`; a delete where it is None."""
    op = "delete" if text is None and op == "update" else op
    made = Version(version, ordinal)
    event = ChangeEvent(op, "posts", entry_id, made, {}, fenced, foreign=not fenced)
    delivery = Delivery("q", b"body", {"op": op}, redelivered)
    if op == "drop":
        return Drop(delivery, event)
    if text is None:
        return Removal(delivery, event)
    document = Post(entry_id, (Section("", text),), author_id=author)
    pieces = [("", word) for word in text.split()]
    return Upsert(
        delivery, event, document, name_chunks("posts", entry_id, [Piece(*one) for one in pieces])
    )


class World:
    def __init__(self, client: QdrantClient) -> None:
        self.client = client
        self.store = QdrantStore(self.client, DOCUMENT_TYPES)
        self.embedder = HashingEmbedder()
        self.store.ensure_collections(self.embedder.dimension)
        self.index = Indexer(self.store, self.embedder)

    def apply(self, *changes: Prepared) -> list[str]:
        return [
            result.outcome if isinstance(result, Indexed) else "dead"
            for result in self.index(list(changes))
        ]

    def points(self, collection: str) -> dict[str, dict[str, Any]]:
        records, _ = self.client.scroll(collection, limit=1000)
        return {str(record.id): dict(record.payload or {}) for record in records}

    def words(self, entry_id: str = "a") -> list[str]:
        """The chunks of a document, in the order of its record, which names all of them."""
        chunks = self.points(vectors_of("posts"))
        stored = {id_: p["content"] for id_, p in chunks.items() if p["entry_id"] == entry_id}
        named = (self.record(entry_id) or {}).get("chunk_ids", [])
        assert sorted(stored) == sorted(named)
        return [stored[id_] for id_ in named]

    def record(self, entry_id: str = "a") -> dict[str, Any] | None:
        return self.points(cleaned("posts")).get(record_id("posts", entry_id))


@pytest.fixture
def world() -> Iterator[World]:
    world = World(QdrantClient(":memory:"))
    yield world
    world.store.close()


def test_only_new_chunks_are_embedded(world: World) -> None:
    world.apply(change("a b c d", 1))
    assert world.embedder.encoded == 4
    world.apply(change("a x b c d", 2))
    assert world.embedder.encoded == 5
    assert world.words() == ["a", "x", "b", "c", "d"]


def test_a_word_in_front_of_a_long_document_writes_its_chunk_and_the_record(world: World) -> None:
    """No other chunk knows that its place has changed: on a server that copies its vector."""
    counted: Any = CountedWrites(world.client)
    watched = World(counted)
    words = [f"word{number}" for number in range(300)]
    watched.apply(change(" ".join(words), 1))
    counted.points.clear()
    watched.apply(change(" ".join(["first", *words]), 2))
    assert counted.points == {"vector_posts upserted": 1, "cleaned_posts upserted": 1}
    assert world.words() == ["first", *words]
    counted.points.clear()
    watched.apply(change(" ".join(words), 3))
    assert counted.points == {"vector_posts deleted": 1, "cleaned_posts upserted": 1}


def test_a_document_that_is_removed_while_it_is_read_is_seen_as_removed(world: World) -> None:
    """By the process that the queue was given to, while this one goes on with what it has."""
    world.apply(change("a b", 1))
    retrieve, asked = world.client.retrieve, []

    def remove_meanwhile(*arguments: Any, **options: Any) -> Any:
        answer = retrieve(*arguments, **options)
        asked.append(arguments)
        if len(asked) == 1:
            world.apply(change(None, 3))
        return answer

    world.client.retrieve = remove_meanwhile  # type: ignore[method-assign]
    assert world.store.read([Key("posts", "a")])[Key("posts", "a")].version == Version(3)
    assert world.record() is None


def test_an_edit_there_and_back_loses_nothing(world: World) -> None:
    world.apply(change("a b", 1))
    world.apply(change("a c", 2), change("a b", 3))
    world.apply(change("c", 4))
    world.apply(change("a b", 5))
    assert world.words() == ["a", "b"]


@pytest.mark.parametrize("lost", [[0], [0, 1]])
def test_a_snapshot_refills_vectors_that_somebody_removed(world: World, lost: list[int]) -> None:
    """The records still say that the chunks exist."""
    world.apply(change("a b", 1), change("c", 1, entry_id="2"), change("d", 1, entry_id="3"))
    ids = [id_ for id_, p in world.points(vectors_of("posts")).items() if p["entry_id"] != "3"]
    world.client.delete(vectors_of("posts"), [id_ for n, id_ in enumerate(ids) if n in lost])
    rows = [change("a b", 2, op="snapshot"), change("c", 2, entry_id="2", op="snapshot")]
    assert world.apply(*rows, change("d", 2, entry_id="3", op="snapshot")) != []
    assert (world.words(), world.words("2"), world.words("3")) == (["a", "b"], ["c"], ["d"])
    assert world.embedder.encoded == 4 + len(lost)


def test_equal_texts_are_points_of_their_own(world: World) -> None:
    world.apply(change("a a b a", 1))
    assert world.words() == ["a", "a", "b", "a"]
    world.apply(change("b a", 2))
    assert world.words() == ["b", "a"]


def test_metadata_changes_without_embedding(world: World) -> None:
    world.apply(change("a b", 1))
    world.apply(change("a b", 2, author="you"))
    assert world.embedder.encoded == 2
    assert {p["author_id"] for p in world.points(vectors_of("posts")).values()} == {"you"}
    assert (world.record() or {})["author_id"] == "you"


def test_an_unchanged_replace_moves_the_version_only(world: World) -> None:
    world.apply(change("a b", 1))
    before = world.record() or {}
    assert world.apply(change("a b", 2)) == ["refreshed"]
    assert world.record() == {**before, "version": 2}
    assert world.embedder.encoded == 2


def test_older_changes_are_dropped_and_equal_versions_pass(world: World) -> None:
    world.apply(change("new", 5))
    assert world.apply(change("old", 4)) == ["stale"]
    assert world.words() == ["new"]
    assert world.apply(change("same", 5)) == ["upserted"]
    assert world.words() == ["same"]


def test_a_deleted_document_is_not_resurrected(world: World) -> None:
    world.apply(change("a b", 1))
    assert world.apply(change(None, 3)) == ["removed"]
    assert world.points(cleaned("posts")) == world.points(vectors_of("posts")) == {}
    assert world.apply(change("a b", 2)) == ["stale"]
    assert world.apply(change("c", 4)) == ["upserted"]
    assert world.words() == ["c"]


def test_a_delete_of_what_never_came_fences_all_the_same(world: World) -> None:
    world.apply(change(None, 3))
    assert world.apply(change("a", 2)) == ["stale"]
    assert len(world.points(TOMBSTONES)) == 1


def test_a_message_without_version_counts_as_new(world: World) -> None:
    world.apply(change("a", 2**62))
    assert world.apply(change("b", 1, fenced=False)) == ["upserted"]
    assert (world.record() or {})["version"] == 2**62
    assert world.words() == ["b"]


def test_a_drop_removes_what_is_not_newer(world: World) -> None:
    world.apply(change("a", 1, entry_id="1"), change("b", 5, entry_id="2"))
    drop = change(None, 3, op="drop", entry_id="")
    assert world.apply(drop, change("late", 2, entry_id="3")) == ["dropped", "stale"]
    assert world.words("1") == []
    assert world.words("2") == ["b"]
    assert world.apply(change("again", 4, entry_id="1")) == ["upserted"]


def test_a_half_written_change_leaves_no_orphan(world: World) -> None:
    """Killed after the new chunks: the record still names only the old ones."""
    world.apply(change("a b", 1))
    store, bury = world.store, world.store.bury
    store.bury = lambda removals: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.apply(change("a x y", 2))
    assert len(world.points(vectors_of("posts"))) == 4
    store.bury = bury  # type: ignore[method-assign]
    world.apply(change("a x y", 2, redelivered=True), change("c", 3))
    assert world.words() == ["c"]


def test_searches_never_find_a_document_without_chunks(world: World) -> None:
    seen: list[int] = []
    original = world.store._client.call

    def spy(function: Any) -> Any:
        seen.append(len(world.points(vectors_of("posts"))))
        return original(function)

    world.apply(change("a b c", 1))
    world.store._client.call = spy  # type: ignore[method-assign]
    world.apply(change("x y z", 2))
    assert seen
    assert min(seen) >= 3


class PickyEmbedder(HashingEmbedder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        if "poison" in texts:
            raise ValueError("no")
        if "nan" in texts:
            return np.full((len(texts), self.dimension), np.nan, dtype=np.float32)
        return super().encode(texts)


@pytest.mark.parametrize("poison", ["poison", "nan"])
def test_a_refused_document_costs_its_neighbours_nothing(world: World, poison: str) -> None:
    world.index = Indexer(world.store, PickyEmbedder())
    world.apply(change("old", 1, entry_id="2"))
    results = world.index(
        [
            change("a", 2, entry_id="1"),
            change(f"x {poison}", 2, entry_id="2"),
            change("c", 2, entry_id="3"),
        ]
    )
    letters = [r for r in results if isinstance(r, DeadLetter)]
    assert [(d.entry_id, d.version, d.body) for d in letters] == [("2", (2, 0), b"body")]
    assert (world.words("1"), world.words("2"), world.words("3")) == (["a"], [], ["c"])


def test_collapse_keeps_the_newest_and_the_last_of_equals() -> None:
    one, two, three = change("a", 2), change("b", 2), change("c", 1)
    assert collapse([one, two, three]) == {Key("posts", "a"): two}


def test_chunks_of_another_model_are_embedded_again() -> None:
    prepared = change("a b", 2)
    assert isinstance(prepared, Upsert)
    ids = [chunk.id for chunk in prepared.chunks]
    stored = Stored(Version(1), {"chunk_ids": ids, "model": "other", "version": 1})
    made = plan(prepared, stored, "hashing")
    assert isinstance(made, UpsertPlan)
    assert [chunk.payload["content"] for chunk in made.new] == ["a", "b"]


@pytest.mark.parametrize("op", ["snapshot", "repair"])
def test_an_emptied_vector_collection_is_refilled(world: World, op: str) -> None:
    """The records say that the chunks exist."""
    world.apply(change("a b", 1))
    world.client.delete(vectors_of("posts"), list(world.points(vectors_of("posts"))))
    assert world.apply(change("a b", 2, op=op)) == ["upserted"]
    assert world.words() == ["a", "b"]


def test_duplicates_and_order_converge(world: World) -> None:
    history = [change("a b", 1), change("a c", 2), change(None, 3), change("d", 4)]
    for index in (3, 0, 1, 3, 2, 0):
        world.apply(history[index])
    assert world.words() == ["d"]


def test_a_point_that_disappears_meanwhile_is_written_again(world: World) -> None:
    """Reconciliation, or a person, deletes chunks that the next change only means to update."""
    world.apply(change("a b c", 1))
    ids = list(world.points(vectors_of("posts")))
    world.client.delete(vectors_of("posts"), ids[:1])
    assert world.apply(change("a b c", 2, author="you")) == ["upserted"]
    assert world.words() == ["a", "b", "c"]
    assert world.embedder.encoded == 4


class SlowEmbedder(HashingEmbedder):
    """Somebody else writes while it thinks."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def encode(self, texts: Sequence[str]) -> Vectors:
        time.sleep(TRUST_S * 1.1)
        self._meanwhile()
        return super().encode(texts)


@pytest.mark.parametrize("newer", ["a z", None])
def test_a_consumer_that_was_cut_off_overwrites_nothing_newer(
    world: World, newer: str | None
) -> None:
    """Its successor gets the same change again, and the one after it, before it is done."""
    world.apply(change("a b", 1))
    successor = Indexer(world.store, HashingEmbedder())
    then = [change("a x", 2, redelivered=True), change(newer, 3)]
    cut_off = Indexer(world.store, SlowEmbedder(lambda: [successor([one]) for one in then]))
    results = cut_off([change("a x y", 2), change("other", 1, entry_id="b")])
    assert sorted(r.outcome for r in results if isinstance(r, Indexed)) == ["stale", "upserted"]
    assert world.words() == (newer.split() if newer else [])
    assert world.words("b") == ["other"]
