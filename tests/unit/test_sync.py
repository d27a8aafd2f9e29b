"""The oracle itself: it must see every kind of damage, and nothing else."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from bson import ObjectId
from qdrant_client import QdrantClient
from qdrant_client import models as q
from tokenizers import Tokenizer, models, pre_tokenizers

from connectors.qdrant import VECTOR_NAME, QdrantStore, cleaned, vectors_of
from flows.operators.index import Indexer
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES, entry_id_of, record_id
from retrieval.sync import (
    State,
    WithoutEmbedding,
    compare,
    expected_state,
    prepared,
    stored_state,
)
from tests.unit.test_retrieval import HashingEmbedder

Documents = list[tuple[str, dict[str, Any]]]

POSTS: Documents = [
    ("posts", {"_id": ObjectId(b"0" * 12), "content": "ships sail on the sea " * 30}),
    ("posts", {"_id": 7, "content": {"Content": "trains run"}, "platform": "blog"}),
    ("repositories", {"_id": "r", "name": "r", "content": {"a.py": "x = 1\n"}, "owner_id": "o"}),
]
BROKEN: tuple[str, dict[str, Any]] = ("posts", {"_id": "broken", "platform": "blog"})


@pytest.fixture(scope="module")
def chunker() -> Chunker:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Chunker(tokenizer, 40)


@pytest.fixture
def expected(chunker: Chunker) -> State:
    return expected_state(POSTS, chunker, HashingEmbedder())


@pytest.fixture
def client(chunker: Chunker) -> Iterator[QdrantClient]:
    """A store that an incremental sync has filled, in another order and with a detour."""
    with closing(QdrantClient(":memory:")) as client:
        store = QdrantStore(client, DOCUMENT_TYPES)
        store.ensure_collections(HashingEmbedder.dimension)
        index = Indexer(store, HashingEmbedder())
        before: Documents = [("posts", {"_id": 7, "content": "trains stand", "platform": "blog"})]
        for version, documents in ((1, before), (2, POSTS[::-1])):
            index(list(prepared(documents, chunker, version)))
        yield client


def test_is_in_sync_whatever_the_way(client: QdrantClient, expected: State) -> None:
    assert compare(expected, stored_state(client, with_vectors=True)) == []


def test_leaves_vectors_out_where_nothing_is_embedded(
    client: QdrantClient, chunker: Chunker
) -> None:
    stand_in = WithoutEmbedding(HashingEmbedder().name, HashingEmbedder.dimension)
    expected = expected_state(POSTS, chunker, stand_in)
    assert compare(expected, stored_state(client, with_vectors=True)) == []


def test_counts_documents_and_chunks(expected: State) -> None:
    assert {type_: expected.documents(type_) for type_ in DOCUMENT_TYPES} == {
        "posts": 2,
        "articles": 0,
        "repositories": 1,
    }
    assert expected.chunks("posts") > 2
    assert expected.chunks("repositories") == 1


def test_expects_nothing_of_what_the_flow_dead_letters(chunker: Chunker, expected: State) -> None:
    assert compare(expected_state([*POSTS, BROKEN], chunker, HashingEmbedder()), expected) == []


def delete_record(client: QdrantClient) -> None:
    client.delete(cleaned("posts"), [record_id("posts", entry_id_of(7))])


def delete_chunk(client: QdrantClient) -> None:
    client.delete(vectors_of("repositories"), [chunk_of(client)])


def add_record(client: QdrantClient) -> None:
    payload = {"type": "articles", "entry_id": "ghost", "version": 1}
    point = q.PointStruct(id=record_id("articles", "ghost"), vector={}, payload=payload)
    client.upsert(cleaned("articles"), [point])


def add_chunk(client: QdrantClient) -> None:
    vector: Any = {VECTOR_NAME: [1.0] + [0.0] * (HashingEmbedder.dimension - 1)}
    point = q.PointStruct(id=1, vector=vector, payload={"entry_id": "ghost", "content": "boo"})
    client.upsert(vectors_of("posts"), [point])


def change_content(client: QdrantClient) -> None:
    client.set_payload(vectors_of("repositories"), {"content": "x = 2"}, [chunk_of(client)])


def change_order(client: QdrantClient) -> None:
    record = record_id("posts", str(ObjectId(b"0" * 12)))
    [found] = client.retrieve(cleaned("posts"), [record])
    chunk_ids = (found.payload or {})["chunk_ids"]
    client.set_payload(cleaned("posts"), {"chunk_ids": chunk_ids[::-1]}, [record])


def add_field(client: QdrantClient) -> None:
    client.set_payload(cleaned("posts"), {"position": 3}, q.Filter())


def change_author(client: QdrantClient) -> None:
    client.set_payload(cleaned("posts"), {"author_id": "eve"}, q.Filter())


def change_model(client: QdrantClient) -> None:
    client.set_payload(vectors_of("repositories"), {"model": "other"}, [chunk_of(client)])


def change_vector(client: QdrantClient) -> None:
    vector: Any = {VECTOR_NAME: [1.0] + [0.0] * (HashingEmbedder.dimension - 1)}
    point = q.PointVectors(id=chunk_of(client), vector=vector)
    client.update_vectors(vectors_of("repositories"), [point])


def chunk_of(client: QdrantClient) -> str:
    return str(client.scroll(vectors_of("repositories"))[0][0].id)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (delete_record, r"cleaned_posts: .*numberInt.* is missing"),
        (delete_chunk, r"vector_repositories: 'r' chunk 'x = 1' is missing"),
        (add_record, r"cleaned_articles: 'ghost' is too much"),
        (add_chunk, r"vector_posts: 'ghost' chunk 'boo' is too much"),
        (change_content, r"vector_repositories: .* has content 'x = 2' instead of 'x = 1'"),
        (change_order, r"cleaned_posts: .* has chunk_ids \["),
        (add_field, r"cleaned_posts: .* has position 3 instead of None"),
        (change_author, r"cleaned_posts: .* has author_id 'eve' instead of None"),
        (change_model, r"vector_repositories: 'r' chunk .* has model 'other' instead of 'hashing'"),
        (change_vector, r"vector_repositories: 'r' chunk .* has another vector: cosine"),
    ],
)
def test_sees_damage(
    client: QdrantClient, expected: State, damage: Callable[[QdrantClient], None], told: str
) -> None:
    damage(client)
    differences = compare(expected, stored_state(client, with_vectors=True))
    assert any(re.match(told, line) for line in differences), differences
