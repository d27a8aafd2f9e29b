"""Every filter in every mode, alone and with the others, on a server that refuses those on fields
without an index.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import (
    Collections,
    QdrantStore,
    Unsearched,
    count_unsearched,
    open_client,
    vectors_of,
)
from connectors.qdrant.sparse import named
from models import DOCUMENT_TYPES
from models.sparse import chunk_weights
from retrieval.client import RetrievalClient
from retrieval.options import MODES
from tests.qdrant_server import QdrantServer
from tests.unit.test_machine_files import World
from tests.unit.test_retrieval import DIMENSION, HashingEmbedder

TEXT = "ships sail on the sea"
DAYS = ("2024-05-01", "2024-05-02", "2024-05-03")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    folder: Path = tmp_path_factory.mktemp("filters")
    with QdrantServer(folder / "qdrant") as server:
        yield server


@pytest.fixture(scope="module")
def store(server: QdrantServer) -> Iterator[QdrantClient]:
    store = open_client(server.settings)
    QdrantStore(store, DOCUMENT_TYPES).ensure_collections(DIMENSION)
    for type_ in DOCUMENT_TYPES:
        store.upsert(vectors_of(type_), [point(type_, number) for number in range(6)])
    yield store
    store.close()


def point(type_: str, number: int) -> q.PointStruct:
    """Chunk 5 has no dates."""
    day = f"{DAYS[number % 3]}T12:00:00Z" if number < 5 else None
    payload = {
        "type": type_,
        "entry_id": str(number // 2),
        "content": TEXT,
        "model": "hashing",
        "author_id": ("ada", "bob")[number % 2],
        "platform": ("blog", "paper")[number // 3],
        "path": f"{number % 3}.md",
        "published_at": day,
        "updated_at": day,
        "language": ("en", "de", None)[number % 3],
        "tags": [f"t{number}", f"t{number + 1}"],
    }
    dense = HashingEmbedder().encode([TEXT])[0].tolist()
    vectors: Any = {"dense": dense, **named(chunk_weights(TEXT))}
    id_ = str(UUID(int=100 * list(DOCUMENT_TYPES).index(type_) + number + 1))
    return q.PointStruct(id=id_, vector=vectors, payload=payload)


def paths(*names: str) -> q.Filter:
    return q.Filter(must=[q.FieldCondition(key="path", match=q.MatchAny(any=list(names)))])


EVERY = {
    "types": ["posts"],
    "author_id": "ada",
    "platform": "blog",
    "entry_id": "0",
    "path": "0.md",
    "published_after": "2024-05-01T12:00:00Z",
    "published_before": "2024-05-01T12:00:00.001Z",
    "updated_after": date(2024, 5, 1),
    "updated_before": "2024-05-02",
    "language": "en",
    "tag": "t1",
    "only": paths("0.md", "1.md"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, {0, 1, 2, 3, 4, 5}),
        ({"author_id": "bob"}, {1, 3, 5}),
        ({"platform": "paper"}, {3, 4, 5}),
        ({"entry_id": "1"}, {2, 3}),
        ({"path": "2.md"}, {2, 5}),
        ({"language": "de"}, {1, 4}),
        ({"tag": "t3"}, {2, 3}),
        ({"tag": "t3", "language": "en"}, {3}),
        ({"published_after": "2024-05-02"}, {1, 2, 4}),
        ({"published_before": "2024-05-02"}, {0, 3}),
        ({"updated_after": "2024-05-02T12:00:00Z", "updated_before": "2024-05-03"}, {1, 4}),
        ({"only": paths("1.md", "2.md")}, {1, 2, 4, 5}),
        ({"only": q.Filter(must_not=[paths("1.md")])}, {0, 2, 3, 5}),
        ({"author_id": "ada", "platform": "blog", "path": "2.md"}, {2}),
        ({"author_id": "ada", "only": paths("1.md", "2.md")}, {2, 4}),
        ({"author_id": "ada", "published_after": "2024-05-02"}, {2, 4}),
        ({"per_document": 1, "author_id": "ada"}, {0, 2, 4}),
        (EVERY, {0}),
        ({**EVERY, "updated_before": "2024-05-01"}, set()),
        ({"author_id": "nobody"}, set()),
    ],
)
def test_filters(store: QdrantClient, mode: Any, wanted: Any, numbers: set[int]) -> None:
    retrieval = RetrievalClient(store, HashingEmbedder())
    for some in ({"types": ["posts"]}, {"types": ["posts", "articles"]}, {}):
        limits = {**some, **wanted}
        hits = retrieval.search("ships sail", mode=mode, limit=50, **limits)
        found = [(hit.type, int(UUID(hit.id)) % 100 - 1) for hit in hits]
        types = limits.get("types") or DOCUMENT_TYPES
        assert sorted(found) == sorted((type_, number) for type_ in types for number in numbers)


@pytest.mark.parametrize("mode", MODES)
def test_diversity_reads_vectors_from_a_server(store: QdrantClient, mode: Any) -> None:
    retrieval = RetrievalClient(store, HashingEmbedder())
    hits = retrieval.search("ships sail", mode=mode, diversity=0.5, limit=3)
    assert len({hit.id for hit in hits}) == 3
    assert hits[0] == retrieval.search("ships sail", mode=mode, limit=50)[0]


def test_a_store_answers_mmr_as_a_server_does(store: QdrantClient) -> None:
    """For other clients: of copies and one other point, it shows the other one second."""
    other = point("posts", 0)
    other.id = str(UUID(int=50))
    assert isinstance(other.vector, dict)
    other.vector["dense"] = HashingEmbedder().encode(["ships are made of wood"])[0].tolist()
    store.upsert(vectors_of("posts"), [other])
    try:
        query = q.NearestQuery(
            nearest=HashingEmbedder().encode(["ships sail"])[0].tolist(),
            mmr=q.Mmr(diversity=0.7, candidates_limit=20),
        )
        found = store.query_points(vectors_of("posts"), query=query, using="dense", limit=2)
        assert str(found.points[1].id) == other.id
    finally:
        store.delete(vectors_of("posts"), [other.id])


def test_a_filter_on_a_field_without_an_index_is_refused(store: QdrantClient) -> None:
    """Or the tests above would show nothing of indexes."""
    only = q.Filter(must=[q.FieldCondition(key="link", match=q.MatchValue(value="x"))])
    with pytest.raises(Exception, match="Index required"):
        RetrievalClient(store, HashingEmbedder()).search("ships", types=["posts"], only=only)


def test_what_searches_do_not_find_is_counted_without_reading_it(store: QdrantClient) -> None:
    names = Collections("counted_")

    def count() -> Unsearched:
        return count_unsearched(store, names, DOCUMENT_TYPES)

    assert count() == Unsearched()
    world = World(store, names=names)
    assert count() == Unsearched()
    world.write(1, a="x = 1", b="y = 2", c="z = 3", d="w = 4")
    assert count() == Unsearched(1, 2, 1, 0)
    # An earlier version has neither the index nor the vectors.
    store.delete_payload_index(names.cleaned("repositories"), "machine_files")
    store.delete_collection(names.vectors("posts"))
    dense = {"dense": q.VectorParams(size=DIMENSION, distance=q.Distance.COSINE)}
    store.create_collection(names.vectors("posts"), vectors_config=dense)
    old = point("posts", 1)
    old.vector = {"dense": [1.0] * DIMENSION}
    store.upsert(names.vectors("posts"), [old])
    assert count() == Unsearched(0, 2, 1, 1)
