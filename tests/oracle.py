"""What "in sync" means, for tests: see `retrieval.sync`."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pymongo.database import Database

from connectors.reader import StoreUnavailableError, open_reader
from flows.operators.chunk import Chunker
from flows.operators.embed import ChunkingEmbedder
from models import DOCUMENT_TYPES
from retrieval.sync import State, compare, expected_state, stored_state


def documents_of(
    database: "Database[dict[str, Any]]",
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The final MongoDB state."""
    for name in DOCUMENT_TYPES:
        for document in database[name].find():
            yield name, document


def fresh(documents: Iterable[tuple[str, Mapping[str, Any]]], embedder: ChunkingEmbedder) -> State:
    """What a fresh sync of `documents` would store, vectors included."""
    return expected_state(documents, Chunker(embedder.tokenizer, embedder.max_tokens), embedder)


def differences(
    database: "Database[dict[str, Any]]", path: Path, embedder: ChunkingEmbedder
) -> list[str]:
    """How the embedded store at `path` differs from a fresh sync; empty when in sync."""
    expected = fresh(documents_of(database), embedder)
    try:
        with open_reader("", path, None) as client:
            return compare(expected, stored_state(client, with_vectors=True))
    except StoreUnavailableError as error:
        return [str(error)]


def wait_in_sync(
    database: "Database[dict[str, Any]]",
    path: Path,
    embedder: ChunkingEmbedder,
    timeout: float = 60,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Wait until the store is in sync; fails with the differences when it is not in time."""
    deadline = time.monotonic() + timeout
    while left := differences(database, path, embedder):
        alive()
        if time.monotonic() > deadline:
            shown = "\n".join(left[:20])
            raise AssertionError(f"not in sync after {timeout} s, {len(left)} lines:\n{shown}")
        time.sleep(0.5)
