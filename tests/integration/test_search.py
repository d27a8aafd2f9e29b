"""A search on the wire: which requests a server gets, and that none waits for another."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_client import QdrantClient
from qdrant_client import grpc as wire

from connectors.qdrant import QdrantSettings, cleaned, open_client, vectors_of
from models import DOCUMENT_TYPES
from models.errors import OtherModelError
from retrieval.client import RetrievalClient
from retrieval.hits import Place
from tests.hashing import HashingEmbedder
from tests.qdrant_server import QdrantServer
from tests.unit.test_index import World, change

TOGETHER_S = 20
"""How long a request waits for the others."""
QUERIES = sorted(("QueryBatch", vectors_of(type_)) for type_ in DOCUMENT_TYPES)


class Wire(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes every call on to a server, and notes it."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self.calls: list[tuple[str, str]] = []
        self.gate: threading.Barrier | None = None
        """Holds each call until so many have arrived."""

    def service(self, details: Any) -> Any:
        ask = self._channel.unary_unary(details.method)

        def forward(request: bytes, context: Any) -> Any:
            # The name of the collection is the first field of every request.
            name = wire.CollectionExistsRequest.FromString(request).collection_name
            self.calls.append((details.method.rpartition("/")[2], name))
            try:
                if self.gate:
                    self.gate.wait(TOGETHER_S)
                return ask(request, metadata=_key(context), timeout=TOGETHER_S)
            except threading.BrokenBarrierError:
                context.abort(grpc.StatusCode.ABORTED, "the others have not come")
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(forward)

    def together(self, count: int) -> list[tuple[str, str]]:
        """From now on a call is answered when so many have arrived; those so far."""
        calls, self.calls = self.calls, []
        self.gate = threading.Barrier(count) if count else None
        return sorted(calls)

    def close(self) -> None:
        self._channel.close()


def _key(context: Any) -> list[tuple[str, str]]:
    return [(key, value) for key, value in context.invocation_metadata() if key == "api-key"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "qdrant") as server:
        yield server


@pytest.fixture
def wired(server: QdrantServer) -> Iterator[tuple[Wire, QdrantSettings]]:
    passing = Wire(f"127.0.0.1:{server.settings.grpc_port}")
    proxy = grpc.server(ThreadPoolExecutor(16))
    proxy.add_generic_rpc_handlers([passing])
    port = proxy.add_insecure_port("127.0.0.1:0")
    proxy.start()
    yield passing, replace(server.settings, grpc_port=port)
    proxy.stop(0).wait()
    passing.close()


@pytest.fixture
def store(wired: tuple[Wire, QdrantSettings]) -> Iterator[QdrantClient]:
    client = open_client(wired[1])
    yield client
    client.close()


@pytest.fixture
def passing(wired: tuple[Wire, QdrantSettings]) -> Wire:
    return wired[0]


def test_a_search_costs_one_round_trip(
    server: QdrantServer, passing: Wire, store: QdrantClient
) -> None:
    """Each request is answered only when those of all types have arrived; there are no others."""
    world = World(open_client(server.settings))
    world.apply(change("a b c", 1))
    retrieval = RetrievalClient(store, HashingEmbedder())
    passing.together(len(DOCUMENT_TYPES))
    hits = retrieval.search("b")
    assert (hits[0].content, len(hits)) == ("b", 3)
    assert passing.together(1) == QUERIES
    assert [hit.content for hit in retrieval.search("c", limit=1, types=["posts"])] == ["c"]
    assert passing.together(1) == [("QueryBatch", vectors_of("posts"))]
    assert retrieval.places(hits[:1]) == [Place(1, 3)]
    assert passing.together(1) == [("Get", cleaned("posts"))]
    [found] = retrieval.contexts(hits[:1])
    assert found is not None
    assert [one.content for one in found.before + found.after] == ["a", "c"]
    assert passing.together(0) == [("Get", cleaned("posts")), ("Get", vectors_of("posts"))]


def test_a_type_without_a_collection_has_no_hits_and_costs_one_request_more(
    server: QdrantServer, passing: Wire, store: QdrantClient
) -> None:
    """Of all that may be missing: whether a migration has removed the model of the search."""
    told = [("CollectionExists", "models"), *QUERIES]
    retrieval = RetrievalClient(store, HashingEmbedder())
    passing.together(0)
    assert retrieval.search("a") == []
    assert passing.together(0) == told
    world = World(open_client(server.settings))
    world.apply(change("a b c", 1))
    world.client.delete_collection(vectors_of("articles"))
    assert len(retrieval.search("a")) == 3
    assert passing.together(0) == told


def test_searches_of_several_threads_do_not_wait_for_each_other(
    server: QdrantServer, passing: Wire, store: QdrantClient
) -> None:
    World(open_client(server.settings)).apply(change("a b c", 1))
    retrieval = RetrievalClient(store, HashingEmbedder())
    threads = 4
    passing.together(threads * len(DOCUMENT_TYPES))
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(retrieval.search, ["a"] * threads))
    assert [len(hits) for hits in found] == [3] * threads
    assert len(passing.together(0)) == threads * len(DOCUMENT_TYPES)


def test_the_gate_of_these_tests_notices_requests_that_wait_for_each_other(
    passing: Wire, store: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.test_search.TOGETHER_S", 0.5)
    passing.together(2)
    for name in ("posts", "articles"):
        with pytest.raises(grpc.RpcError, match="the others have not come"):
            store.collection_exists(name)


def test_another_model_is_told_on_a_server(
    server: QdrantServer, passing: Wire, store: QdrantClient
) -> None:
    World(open_client(server.settings)).apply(change("a b c", 1))
    newer = HashingEmbedder()
    newer.name = "newer"
    with pytest.raises(OtherModelError, match="'hashing'"):
        RetrievalClient(store, newer).search("a")
    asked = passing.together(0)
    assert [call for call in asked if call[0] == "QueryBatch"] == QUERIES
    assert {name for name, _ in asked} == {"QueryBatch", "Scroll"}


def test_the_threads_of_a_search_end_with_its_client(store: QdrantClient) -> None:
    def searching() -> int:
        return sum(thread.name.startswith("search") for thread in threading.enumerate())

    retrieval = RetrievalClient(store, HashingEmbedder())
    retrieval.search("a")
    assert searching() > 0
    del retrieval
    deadline = time.monotonic() + 20
    while searching():
        assert time.monotonic() < deadline
        gc.collect()  # an error and its traceback may be a circle
        time.sleep(0.01)
