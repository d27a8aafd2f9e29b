"""The upgrade of stores without sparse vectors on the embedded store, killed, and beside flows.

The tests of the unit run here again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import QdrantSettings, open_client
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.qdrant.embedded import collection as collections
from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.description import Layout
from connectors.qdrant.embedded.engine import Point
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from models.sparse import chunk_weights
from retrieval.client import RetrievalClient
from retrieval.options import MODES
from tests.chaos.harness import Flows, Load, kill_store, settle
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.integration.test_reconcile import reconcile
from tests.oracle import differences
from tests.unit.test_upgrade import *  # noqa: F403 (the same tests, on this `client`)
from tests.unit.test_upgrade import POSTS, World, change, check_sparse, make_old, store_of

SPARSE = q.SparseVectorParams(modifier=q.Modifier.IDF)
OLD = Layout({"dense": q.VectorParams(size=2, distance=q.Distance.COSINE)}, {})


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "qdrant"
    stop(StoreFolder(tmp_path / "qdrant"))


@pytest.fixture
def client(path: Path) -> Iterator[QdrantClient]:
    with closing(open_client(QdrantSettings(path=path))) as client:
        yield client


def id_of(number: int) -> str:
    return str(UUID(int=number + 1))


def filled(collection: Collection, count: int) -> None:
    collection.upsert([Point(id_of(n), {"dense": [1.0, n]}, {"n": n}) for n in range(count)])


def lacking(collection: Collection) -> int:
    condition = q.HasVectorCondition(has_vector="sparse")
    return collection.count(q.Filter(must_not=[condition]))


def test_an_upgrade_survives_a_kill_of_the_store(client: QdrantClient, path: Path) -> None:
    make_old(client)
    world = World(client)
    world.apply(change(" ".join(f"word{number}" for number in range(900)), 1))

    def upgrade() -> None:
        while True:
            try:
                store_of(client).add_sparse(DOCUMENT_TYPES)
                return
            except Exception:  # noqa: BLE001 (whatever a client is told while the store is away)
                time.sleep(0.05)

    thread = threading.Thread(target=upgrade)
    thread.start()
    kill_store(path)
    thread.join(60)
    assert not thread.is_alive()
    kill_store(path)
    wait_for_the_store(client)
    assert store_of(client).add_sparse(DOCUMENT_TYPES)["posts"] == 0
    check_sparse(client, 900)


def wait_for_the_store(client: QdrantClient) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.get_collection(POSTS)
            return
        except Exception:  # noqa: BLE001 (whatever a client is told while the store is away)
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_kill_between_the_engine_and_the_description_of_a_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has the vectors, nobody else knows of them: they can be added again."""
    made = Collection.create(tmp_path / "posts", OLD)
    filled(made, 10)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(collections, "write_description", killed)
        with pytest.raises(SystemExit):
            made.add_sparse("sparse", SPARSE)
    made.close()
    again = Collection(tmp_path / "posts")
    assert not again.layout.sparse
    assert again.rewrite()  # of the layout without
    again.add_sparse("sparse", SPARSE)
    assert lacking(again) == 10
    again.close()
    assert Collection(tmp_path / "posts").layout.sparse == {"sparse": SPARSE}


@pytest.mark.parametrize("copied", [False, True])
def test_removed_vectors_do_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """A kill in the middle of a removal leaves them in the engine; they may be of other weights."""
    made = Collection.create(tmp_path / "posts", Layout(OLD.vectors, {"sparse": SPARSE}))
    filled(made, 10)
    weights = chunk_weights("word")
    vector = q.SparseVector(indices=list(weights.indices), values=list(weights.values))
    made.update_vectors([(id_of(3), {"sparse": vector})])
    assert lacking(made) == 9

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("connectors.qdrant.embedded.engine.Shard.remove_vectors", killed)
        with pytest.raises(SystemExit):
            made.remove_vectors("sparse")
    made.close()
    again = Collection(tmp_path / "posts")
    assert not again.layout.sparse
    if copied:
        assert again.rewrite()
    again.add_sparse("sparse", SPARSE)
    assert lacking(again) == 10
    again.close()


def test_a_copy_of_a_collection_keeps_missing_vectors_missing(tmp_path: Path) -> None:
    """Or else reconcile would never find them."""
    made = Collection.create(tmp_path / "posts", OLD)
    filled(made, 200)
    made.add_sparse("sparse", SPARSE)
    vector = q.SparseVector(indices=[1], values=[1.0])
    made.update_vectors([(id_of(n), {"sparse": vector}) for n in range(50)])
    assert made.rewrite()
    assert lacking(made) == 150
    made.close()


def test_a_copy_that_is_being_made_is_not_taken_after_vectors_were_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Collection.create(tmp_path / "posts", OLD)
    filled(made, 200)
    copy_all = Collection._copy_all

    def meanwhile(self: Collection, copy: object) -> bool:
        done = copy_all(self, copy)  # type: ignore[arg-type]
        self.add_sparse("sparse", SPARSE)
        return done

    monkeypatch.setattr(Collection, "_copy_all", meanwhile)
    assert not made.rewrite()
    made.update_vectors([(id_of(0), {"sparse": q.SparseVector(indices=[1], values=[1.0])})])
    assert lacking(made) == 199
    made.close()


def test_reconcile_upgrades_a_store_beside_flows_that_write(place: Place) -> None:
    with closing(open_client(place.qdrant)) as client:
        make_old(client)
    load = Load(place, seed=7, documents=40)
    load.insert_all()
    flows = Flows(place)
    with flows.both():
        deadline = time.monotonic() + 90
        while not all_stored(place):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        lines = differences(place.database, place.qdrant, HashingEmbedder())
        assert lines
        assert all("no sparse vector" in line for line in lines)
        with load.running():
            upgraded = reconcile(place)
        assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
        assert "chunks have got sparse vectors" in upgraded.stdout
        assert settle(place, flows, 60) == []
        assert set(flows.stop().values()) == {0}


def all_stored(place: Place) -> bool:
    lines = differences(place.database, place.qdrant, HashingEmbedder())
    return all("no sparse vector" in line for line in lines)


def test_searches_notice_an_upgrade(client: QdrantClient) -> None:
    make_old(client)
    world = World(client)
    world.apply(change("one two getUserName", 1))
    retrieval = RetrievalClient(client, world.embedder)
    assert [hit.sparse for hit in retrieval.search("user name")] == [None] * 3
    assert retrieval.dense_only == set(DOCUMENT_TYPES)
    with pytest.raises(ConfigurationError, match="make reconcile"):
        retrieval.search("user name", mode="sparse")
    store_of(client).add_sparse(DOCUMENT_TYPES)
    assert retrieval.search("user name")[0].content == "getUserName"
    assert retrieval.dense_only == set()
    only = q.Filter(must=[q.HasIdCondition(has_id=[id_of(0)])])
    assert retrieval.search("user name", only=only) == []


def test_a_long_query_and_an_emoji_are_answered(client: QdrantClient) -> None:
    world = World(client)
    world.apply(change("one 🎉 getUserName", 1))
    retrieval = RetrievalClient(client, world.embedder)
    assert retrieval.search("🎉", mode="sparse")[0].content == "🎉"
    text = " ".join(f"word{number}" for number in range(12_000)) + " getUserName"
    assert len(text) > 100_000
    for mode in MODES:
        assert retrieval.search(text, mode=mode)
    assert retrieval.search(text, mode="sparse")[0].content == "getUserName"
