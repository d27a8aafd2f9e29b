"""Several deployments on one store."""

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import Collections, QdrantStore
from flows.operators.index import Indexer
from flows.settings import Settings
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from retrieval.client import RetrievalClient
from retrieval.sync import stored_state
from tests.hashing import HashingEmbedder
from tests.unit.test_index import change


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def indexer(client: QdrantClient, prefix: str) -> Indexer:
    store = QdrantStore(client, DOCUMENT_TYPES, Collections(prefix))
    store.ensure_collections(HashingEmbedder.dimension)
    return Indexer(store, HashingEmbedder())


def test_with_prefixes_a_drop_of_one_deployment_leaves_the_other_alone(
    client: QdrantClient,
) -> None:
    one, two = indexer(client, ""), indexer(client, "two_")
    one([change("a b", 1)])
    two([change("c d", 1)])
    two([change(None, 9, entry_id="", op="drop")])
    assert stored_state(client, with_vectors=False).chunks("posts") == 2
    names = Collections("two_")
    assert stored_state(client, with_vectors=False, collections=names).chunks("posts") == 0


def test_a_search_reads_the_collections_of_its_deployment_only(client: QdrantClient) -> None:
    one, two = indexer(client, "one_"), indexer(client, "two_")
    one([change("a", 1)])
    two([change("b", 1)])
    search = RetrievalClient(client, HashingEmbedder(), Collections("two_")).search
    assert [hit.content for hit in search("a")] == ["b"]


@pytest.mark.parametrize("prefix", ["a/b", "ä_", "a b", "x" * 65, "..", "a:"])
def test_a_prefix_that_no_collection_may_have_is_one_line(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="QDRANT_COLLECTION_PREFIX"):
        Settings.from_env({"QDRANT_COLLECTION_PREFIX": prefix})


def test_the_prefix_begins_every_collection(client: QdrantClient) -> None:
    settings = Settings.from_env({"QDRANT_COLLECTION_PREFIX": "staging-"})
    store = QdrantStore(client, DOCUMENT_TYPES, settings.qdrant.collections)
    store.ensure_collections(8)
    made = [collection.name for collection in client.get_collections().collections]
    assert len(made) == 2 * len(DOCUMENT_TYPES) + 1
    assert all(name.startswith("staging-") for name in made)
