"""What "in sync" means, for tests: see `retrieval.sync`."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pymongo.database import Database

from connectors.qdrant import QdrantSettings, open_reader
from flows.embedding.embedder import ChunkingEmbedder
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES
from models.errors import StoreUnavailableError
from retrieval.sync import State, compare, expected_state, stored_state


def documents_of(
    database: "Database[dict[str, Any]]",
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The final MongoDB state."""
    for name in DOCUMENT_TYPES:
        for document in database[name].find():
            yield name, document


def fresh(documents: Iterable[tuple[str, Mapping[str, Any]]], embedder: ChunkingEmbedder) -> State:
    """The points of a fresh sync of `documents`, vectors included."""
    return expected_state(documents, Chunker(embedder.tokenizer, embedder.max_tokens), embedder)


def differences(
    database: "Database[dict[str, Any]]", store: QdrantSettings, embedder: ChunkingEmbedder
) -> list[str]:
    """How a store differs from a fresh sync; empty when in sync."""
    expected = fresh(documents_of(database), embedder)
    try:
        with open_reader(store) as client:
            return compare(
                expected, stored_state(client, with_vectors=True, collections=store.collections)
            )
    except StoreUnavailableError as error:
        return [str(error)]


def kinds_of_difference(
    database: "Database[dict[str, Any]]", store: QdrantSettings, embedder: ChunkingEmbedder
) -> Counter[str]:
    """Points that differ from a fresh sync: lost, stale, resurrected (of a document that MongoDB
    does not have) and duplicated (too many of one that it has).
    """
    expected = fresh(documents_of(database), embedder)
    with open_reader(store) as client:
        stored = stored_state(client, with_vectors=True, collections=store.collections)
    kinds: Counter[str] = Counter()
    for name in {*expected.points, *stored.points}:
        want, have = expected.points.get(name, {}), stored.points.get(name, {})
        alive = {point.payload["entry_id"] for point in want.values()}
        kinds["lost"] += len(want.keys() - have.keys())
        for id_ in have.keys() - want.keys():
            known = have[id_].payload["entry_id"] in alive
            kinds["duplicated" if known else "resurrected"] += 1
        both = want.keys() & have.keys()
        shared = [State({name: {i: s[i] for i in both}}, with_vectors=True) for s in (want, have)]
        kinds["stale"] += len(compare(*shared))
    return kinds


def wait_in_sync(
    database: "Database[dict[str, Any]]",
    store: QdrantSettings,
    embedder: ChunkingEmbedder,
    timeout: float = 60,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Wait until the store is in sync; fails with the differences when it is not in time."""
    deadline = time.monotonic() + timeout
    while left := differences(database, store, embedder):
        alive()
        if time.monotonic() > deadline:
            shown = "\n".join(left[:20])
            raise AssertionError(f"not in sync after {timeout} s, {len(left)} lines:\n{shown}")
        time.sleep(0.5)
