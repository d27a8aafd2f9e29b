"""A store without sparse vectors, as earlier versions made it: written, and upgraded."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import SPARSE_NAME, VECTOR_NAME, QdrantStore, vectors_of
from models import DOCUMENT_TYPES
from models.errors import StoreTooOldError
from models.sparse import NO_TERMS, chunk_weights
from tests.hashing import HashingEmbedder
from tests.histories.store import Killed
from tests.unit.test_answers import Answer
from tests.unit.test_index import World, change

POSTS = vectors_of("posts")
WORDS = " ".join(f"word{number}" for number in range(300))


def make_old(client: QdrantClient, size: int = HashingEmbedder.dimension) -> None:
    """The collections of chunks as earlier versions made them."""
    for type_ in DOCUMENT_TYPES:
        dense = {VECTOR_NAME: q.VectorParams(size=size, distance=q.Distance.COSINE)}
        client.create_collection(vectors_of(type_), vectors_config=dense)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def dense_and_sparse(client: QdrantClient) -> tuple[dict[str, Any], dict[str, Any]]:
    """Vectors of all posts by their text; of the sparse ones their indices."""
    dense, sparse = {}, {}
    for record in client.scroll(POSTS, limit=1000, with_vectors=True)[0]:
        text, vectors = (record.payload or {})["content"], record.vector
        assert isinstance(vectors, dict)
        dense[text] = vectors[VECTOR_NAME]
        if SPARSE_NAME in vectors:
            sparse[text] = sorted(vectors[SPARSE_NAME].indices)
    return dense, sparse


def check_sparse(client: QdrantClient, count: int) -> None:
    _, sparse = dense_and_sparse(client)
    assert len(sparse) == count
    assert sparse == {text: list(chunk_weights(text).indices) for text in sparse}


class Watched:
    """A client of which one call can be answered otherwise, or looked away from."""

    def __init__(self, client: QdrantClient, name: str, before: Callable[..., object]) -> None:
        self._client, self._name, self._before = client, name, before

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._client, name)
        if name != self._name:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(*arguments)
            return function(*arguments, **options)

        return call


def store_of(client: Any) -> QdrantStore:
    return QdrantStore(client, DOCUMENT_TYPES)


def test_a_new_store_has_a_sparse_vector_of_every_chunk(client: QdrantClient) -> None:
    World(client).apply(change("one two getUserName", 1))
    check_sparse(client, 3)
    assert store_of(client).add_sparse(DOCUMENT_TYPES) == dict.fromkeys(DOCUMENT_TYPES, 0)


def test_a_store_without_sparse_vectors_is_written_without_them_and_says_so_once(
    client: QdrantClient, caplog: pytest.LogCaptureFixture
) -> None:
    make_old(client)
    world = World(client)
    said = [line for line in caplog.messages if "no sparse vectors" in line]
    assert len(said) == len(DOCUMENT_TYPES)
    assert all("make reconcile" in line for line in said)
    assert world.apply(change("one two", 1)) == ["upserted"]
    assert world.apply(change("one three", 2)) == ["upserted"]
    assert world.words() == ["one", "three"]
    check_sparse(client, 0)
    assert [line for line in caplog.messages if "no sparse vectors" in line] == said


def test_an_upgrade_adds_what_is_missing_and_embeds_nothing(client: QdrantClient) -> None:
    make_old(client)
    world = World(client)
    world.apply(change(WORDS, 1))
    before, _ = dense_and_sparse(client)
    encoded = world.embedder.encoded
    assert store_of(client).add_sparse(DOCUMENT_TYPES)["posts"] == 300
    after, _ = dense_and_sparse(client)
    assert after == before
    assert world.embedder.encoded == encoded
    check_sparse(client, 300)
    assert store_of(client).add_sparse(DOCUMENT_TYPES)["posts"] == 0


def test_a_flow_that_runs_during_the_upgrade_writes_them_from_then_on(
    client: QdrantClient,
) -> None:
    make_old(client)
    world = World(client)
    world.apply(change("one two", 1))
    store_of(client).add_sparse(DOCUMENT_TYPES)
    world.apply(change("one three", 2))
    check_sparse(client, 2)


def test_chunks_of_a_flow_that_did_not_know_yet_are_found(client: QdrantClient) -> None:
    """It looked before there was the name of the vectors, and wrote after the upgrade."""
    make_old(client)
    world = World(client)
    world.apply(change("one two", 1))
    store_of(client).add_sparse(DOCUMENT_TYPES)
    [chunk] = client.scroll(POSTS, limit=1, with_vectors=[VECTOR_NAME])[0]
    vector: Any = chunk.vector
    client.upsert(POSTS, [q.PointStruct(id=chunk.id, vector=vector, payload=chunk.payload)])
    check_sparse(client, 1)
    assert store_of(client).add_sparse(DOCUMENT_TYPES)["posts"] == 1
    check_sparse(client, 2)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_an_upgrade_that_was_killed_goes_on(client: QdrantClient, writes: int) -> None:
    make_old(client)
    World(client).apply(change(WORDS, 1))
    left = iter(range(writes))

    def kill(*_: object) -> None:
        if next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        store_of(Watched(client, "update_vectors", kill)).add_sparse(DOCUMENT_TYPES)
    check_sparse(client, 128 * writes)
    store_of(client).add_sparse(DOCUMENT_TYPES)
    check_sparse(client, 300)


def test_a_chunk_that_is_deleted_meanwhile_neither_fails_an_upgrade_nor_comes_back(
    client: QdrantClient,
) -> None:
    make_old(client)
    world = World(client)
    world.apply(change(WORDS, 1))
    edits = iter([change("word0 word1 other", 2)])

    def edit(*_: object) -> None:
        for one in edits:
            assert world.apply(one) == ["upserted"]

    store_of(Watched(client, "update_vectors", edit)).add_sparse(DOCUMENT_TYPES)
    assert world.words() == ["word0", "word1", "other"]
    check_sparse(client, 3)


def test_a_chunk_without_terms_does_not_keep_an_upgrade_going(client: QdrantClient) -> None:
    make_old(client)
    World(client).apply(change("--- word", 1))
    assert chunk_weights("---") == NO_TERMS
    assert store_of(client).add_sparse(DOCUMENT_TYPES)["posts"] == 1


def test_a_server_that_cannot_add_vectors_is_told_from_one_that_fails(
    client: QdrantClient,
) -> None:
    make_old(client)

    def answer(code: grpc.StatusCode) -> Any:
        def fail(*_: object) -> None:
            raise Answer(code, "unknown method CreateVectorName")

        return store_of(Watched(client, "create_vector_name", fail))

    with pytest.raises(StoreTooOldError, match=r"older than 1\.18"):
        answer(grpc.StatusCode.UNIMPLEMENTED).add_sparse(DOCUMENT_TYPES)
    with pytest.raises(Answer):
        answer(grpc.StatusCode.UNAVAILABLE).add_sparse(DOCUMENT_TYPES)


def test_chunks_that_such_a_flow_writes_during_the_upgrade_are_found_by_it(
    client: QdrantClient,
) -> None:
    """Their ids are before the place where the upgrade has arrived."""
    make_old(client)
    World(client).apply(change(WORDS, 1))
    [chunk] = client.scroll(POSTS, limit=1, with_vectors=[VECTOR_NAME])[0]
    vector: Any = chunk.vector
    late = [q.PointStruct(id=chunk.id, vector=vector, payload=chunk.payload)]
    updates = iter(range(100))

    def write(*_: object) -> None:
        if next(updates) == 1:
            client.upsert(POSTS, late)

    store_of(Watched(client, "update_vectors", write)).add_sparse(DOCUMENT_TYPES)
    check_sparse(client, 300)
