"""Several deployments on one store."""

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import Collections, Owner, QdrantStore
from flows.model_and_store import ModelAndStore
from flows.operators.index import Indexer
from flows.settings import Settings
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from retrieval.client import RetrievalClient
from retrieval.sync import stored_state
from tests.hashing import HashingEmbedder
from tests.in_this_process import InThisProcess
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


OURS, THEIRS = Owner("twin", "/", "default"), Owner("twin", "/", "staging")


def test_a_store_of_another_pipeline_is_refused_in_one_line(client: QdrantClient) -> None:
    QdrantStore(client, DOCUMENT_TYPES).claim(OURS)
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.claim(OURS)  # at each start
    for check in (store.claim, store.check_owner):
        with pytest.raises(ConfigurationError, match="QDRANT_COLLECTION_PREFIX") as caught:
            check(THEIRS)
        assert len(str(caught.value).splitlines()) == 1
        assert "database twin, virtual host /, queue default" in str(caught.value)
    QdrantStore(client, DOCUMENT_TYPES, Collections("two_")).claim(THEIRS)


def test_a_store_of_nobody_is_claimed_by_a_flow_and_by_no_command(client: QdrantClient) -> None:
    """An older version has left no owner."""
    indexer(client, "")([change("a b", 1)])
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.check_owner(THEIRS)
    store.claim(OURS)
    with pytest.raises(ConfigurationError):
        store.claim(THEIRS)
    assert stored_state(client, with_vectors=False).chunks("posts") == 2


def test_a_store_changes_hands_when_the_owner_is_deleted(client: QdrantClient) -> None:
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.claim(OURS)
    client.delete_collection("owner")
    store.claim(THEIRS)
    with pytest.raises(ConfigurationError):
        store.claim(OURS)


@pytest.mark.parametrize(
    "owner", [Owner("ä" * 63, "/", "q"), Owner("t", "a,b", "q" * 240), Owner("t", "/", "<>:|?*")]
)
def test_any_pipeline_can_own_a_store(client: QdrantClient, owner: Owner) -> None:
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.claim(owner)
    store.claim(owner)
    assert len(owner.as_name()) <= 200
    assert not set(owner.as_name()) & set('<>:"/\\|?*')
    with pytest.raises(ConfigurationError):
        store.claim(owner._replace(queue="another"))


def test_two_owners_never_have_one_name() -> None:
    assert Owner("a", "b,c", "d").as_name() != Owner("a,b", "c", "d").as_name()
    assert Owner("q" * 300, "/", "a").as_name() != Owner("q" * 300, "/", "b").as_name()


def test_the_features_flow_refuses_a_foreign_store_before_it_writes(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store_of(queue: str) -> ModelAndStore:
        environment = {"RABBITMQ_QUEUE_NAME": queue}
        return ModelAndStore(Settings.from_env(environment), HashingEmbedder(), InThisProcess())

    monkeypatch.setattr("flows.model_and_store.open_patiently", lambda _settings: client)
    ours = store_of("default")
    ours.load()
    for name in ("cleaned_posts", "tombstones"):
        client.delete_collection(name)
    theirs = store_of("other")
    with pytest.raises(ConfigurationError, match="queue default, not to the"):
        theirs.load()
    assert not client.collection_exists("cleaned_posts")
