"""docs/design.md, "Writes of a batch", is true: its steps, their order, what a search finds."""

import inspect
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import QdrantStore, cleaned, vectors_of
from flows.embedding.embedder import Vectors
from flows.operators import write
from flows.operators.index import Indexer
from flows.operators.store import Store
from flows.operators.write import TRUST_S
from retrieval.client import RetrievalClient
from tests.hashing import HashingEmbedder
from tests.processes import ROOT
from tests.unit.test_index import World, change

_SECTION = (ROOT / "docs/design.md").read_text().split("### Writes of a batch")[1].split("\n## ")[0]
_TOLD = re.findall(r"^\| ([WF]\d|A) \|", _SECTION, re.MULTILINE)


@pytest.fixture
def world() -> Iterator[World]:
    world = World(QdrantClient(":memory:"))
    yield world
    world.store.close()


def labels(method: Any) -> list[str]:
    """The steps that a method's docstring begins with."""
    return re.findall(r"\b[WF]\d\b", (inspect.getdoc(method) or "").partition(":")[0])


def test_code_and_text_name_the_same_steps_in_the_same_order() -> None:
    source = (ROOT / "connectors/rabbitmq/source.py").read_text()
    named = re.findall(r"# ([WF]\d)\b", inspect.getsource(write))
    named += re.findall(r"# (A) \(in docs/design\.md", source)
    assert named == _TOLD
    assert len(named) > 5


@pytest.mark.parametrize("store", [Store, QdrantStore])
def test_every_step_of_the_store_is_named(store: type) -> None:
    named = [label for method in vars(store).values() for label in labels(method)]
    assert sorted(named) == sorted(set(_TOLD) - {"A"})


def test_the_text_says_of_each_step_what_a_kill_there_leaves() -> None:
    rows = re.findall(r"^\| ([^|]*\b(?:and|within)\b[^|]*) \|", _SECTION, re.MULTILINE)
    between = {tuple(re.findall(r"\b(?:[WF]\d|A)\b", part)) for r in rows for part in r.split(";")}
    assert {pair for pair in between if len(pair) == 2} >= set(pairwise(_TOLD))
    assert {pair[0] for pair in between if len(pair) == 1} == set(_TOLD) - {"W1", "W3", "F1", "A"}


class Recording:
    """Notes the steps that really write or read something."""

    def __init__(self, store: QdrantStore) -> None:
        self._store = store
        self.steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        own = labels(getattr(Store, name))

        def call(what: Any, *rest: Any) -> Any:
            if own and what:
                self.steps.append(own[0] if own[0] not in self.steps else own[-1])
            return method(what, *rest)

        return call


class Slow(HashingEmbedder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        time.sleep(TRUST_S * 1.1)
        return super().encode(texts)


def test_the_steps_run_in_the_order_that_the_text_gives(world: World) -> None:
    world.apply(*(change("a b", 1, entry_id=name) for name in ("edited", "same", "removed")))
    recording: Any = Recording(world.store)
    Indexer(recording, Slow())(
        [
            change("a c", 2, entry_id="edited", author="you"),
            change("a b", 2, entry_id="same"),
            change(None, 2, entry_id="removed"),
            change("n", 2, entry_id="new"),
        ]
    )
    assert recording.steps == _TOLD[:-1]


def test_each_step_writes_only_what_the_text_says(world: World) -> None:
    """One request to one collection for each step, so nothing is written out of turn."""
    world.apply(*(change("a b", 1, entry_id=name) for name in ("edited", "same", "removed")))
    chunks, records = vectors_of("posts"), cleaned("posts")
    written: list[tuple[str, str]] = []
    writes = {"upsert", "delete", "batch_update_points"}
    for name in writes:
        original = getattr(world.client, name)

        def call(
            collection: str, *args: Any, _name: str = name, _original: Any = original, **named: Any
        ) -> Any:
            written.append((_name, collection))
            return _original(collection, *args, **named)

        setattr(world.client, name, call)
    world.apply(
        change("a c", 2, entry_id="edited", author="you"),
        change("a b", 2, entry_id="same"),
        change(None, 2, entry_id="removed"),
    )
    assert written == [
        ("upsert", chunks),  # W2
        ("upsert", "tombstones"),  # F1
        ("batch_update_points", chunks),  # F2
        ("delete", chunks),  # F3
        ("batch_update_points", records),  # F4
        ("upsert", records),  # F5
        ("delete", records),  # F6
    ]


class Watched:
    """Searches between any two calls of the store."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._retrieval = RetrievalClient(world.client, world.embedder)
        self.seen: list[set[str]] = []
        self.placed: list[int] = []
        original = world.store._client.call

        def call(function: Callable[[], Any]) -> Any:
            self.look()
            return original(function)

        monkeypatch.setattr(world.store._client, "call", call)

    def look(self) -> None:
        hits = self._retrieval.search("any", limit=1000, types=["posts"])
        self.seen.append({hit.content for hit in hits})
        self.placed.append(sum(place is not None for place in self._retrieval.places(hits)))


MANY = [f"word{number}" for number in range(300)]


def test_a_search_finds_the_chunks_of_a_new_document_as_soon_as_they_are_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they have no place before the record, by which a reader tells that there may be more."""
    watched = Watched(world, monkeypatch)
    world.apply(change(" ".join(MANY), 1))
    watched.look()
    counts = [len(found) for found in watched.seen]
    assert counts == sorted(counts)
    assert {0, 128, 256, len(MANY)} == set(counts)
    assert watched.placed[-1] == len(MANY)
    assert set(watched.placed[:-1]) == {0}
    assert counts[-2] == len(MANY), "the record came before the last chunk, or nobody looked"


def test_a_search_finds_all_of_the_old_or_all_of_the_new_state_of_an_edit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = {*MANY, "kept"}, {*(f"new{number}" for number in range(300)), "kept"}
    world.apply(change(" ".join(sorted(old)), 1))
    watched = Watched(world, monkeypatch)
    world.apply(change(" ".join(sorted(new)), 2))
    watched.look()
    assert watched.seen[0] == old
    assert watched.seen[-1] == new
    assert all(found >= old or found >= new for found in watched.seen)
    assert any(found > old for found in watched.seen)


def test_a_search_finds_a_removed_document_until_its_chunks_are_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(change(" ".join(MANY), 1))
    watched = Watched(world, monkeypatch)
    world.apply(change(None, 2))
    watched.look()
    counts = [len(found) for found in watched.seen]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (len(MANY), 0)
