"""Limits, strict mode and owners, on a server: Qdrant's engine behind its gRPC services."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import UNPREFIXED, Owner, QdrantStore, open_client
from connectors.qdrant.schema import indexes
from connectors.rabbitmq import dead_letter_queue
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from retrieval.client import RetrievalClient
from tests.chaos.harness import Flows, Load, queue_depth, settle
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.processes import ROOT
from tests.qdrant_server import QdrantServer
from tests.unit.test_index import World, change

POSTS = UNPREFIXED.vectors("posts")


def run(place: Place, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place.folder), **place.environment, **extra},
        check=False,
    )  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "qdrant") as server:
        yield server


@pytest.fixture
def client(server: QdrantServer) -> Iterator[QdrantClient]:
    client = open_client(server.settings)
    yield client
    client.close()


def limit(client: QdrantClient, **limits: int) -> None:
    strict = q.StrictModeConfig(enabled=True, **limits)
    client.update_collection(POSTS, strict_mode_config=strict)


def indexed(client: QdrantClient) -> dict[str, set[str]]:
    return {
        collection: set(client.get_collection(collection).payload_schema)
        for collection in indexes(UNPREFIXED, DOCUMENT_TYPES)
    }


def test_a_limit_of_the_store_met_by_edits_removes_no_document(served: Place) -> None:
    """The answer is INVALID_ARGUMENT, as to bad content: two edited documents were removed."""
    posts = served.database["posts"]
    posts.insert_many({"_id": n, "content": f"Text {n}.", "platform": "x"} for n in range(20))
    flows = Flows(served)
    with flows.both():
        assert settle(served, flows, 60) == []
        client = open_client(served.qdrant)
        limit(client, max_points_count=5)
        posts.update_many({}, {"$set": {"content": "All new text."}})
        posts.delete_one({"_id": 0})
        deadline = time.monotonic() + 30
        while "Qdrant refuses, waiting" not in flows.running["features"].output():
            flows.check()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2)
        flows.check()
        assert client.count(UNPREFIXED.cleaned("posts")).count == 20
        assert client.count(POSTS).count == 20
        assert queue_depth(served, dead_letter_queue(served.queue)) == 0
        limit(client)
        assert settle(served, flows, 60) == []
        log = flows.running["features"].output()
        assert log.count("Max points count limit of 5 reached!") == 1
        assert set(flows.stop().values()) == {0}
    assert queue_depth(served, dead_letter_queue(served.queue)) == 0


def test_strict_mode_refuses_no_filter_and_every_index_serves_one(served: Place) -> None:
    """The filters of one run of everything, as the server saw them, are the indexed fields."""
    assert served.server is not None
    load = Load(served, seed=8, documents=20)
    load.insert_all()
    flows = Flows(served)
    with flows.both():
        assert settle(served, flows, 60) == []
        flows.kill("features")  # so that messages come again, and chunks are listed
        for _ in range(20):
            load.step()
        served.database["posts"].drop()
        assert settle(served, flows, 60) == []
        client = open_client(served.qdrant)
        world = World(client)
        world.apply(change("a", 2**63 - 2, redelivered=True))
        search = RetrievalClient(client, HashingEmbedder()).search
        assert [hit.content for hit in search("a", types=["posts"], author_id="me")] == ["a"]
        search("a", platform="x", path="y", language="en", tag="x")
        search("a", published_after="2026-01-01", updated_before="2026-05-31")
        world.apply(change(None, 2**63 - 1))
        for command in (("retrieval.status",), ("tests.hashing_reconcile",)):
            ended = run(served, *command)
            assert ended.returncode == 0, ended.stdout + ended.stderr
        assert world.store.prune_tombstones(time.time() + 3600) > 0
        assert set(flows.stop().values()) == {0}
    data = served.server.data_dir / "data"
    of_a_type = {"chunks": set[str](), "records": set[str]()}
    for type_ in DOCUMENT_TYPES:  # which types met a repeated message is a matter of chance
        for kind, name in (
            ("chunks", UNPREFIXED.vectors(type_)),
            ("records", UNPREFIXED.cleaned(type_)),
        ):
            of_a_type[kind] |= {file.name for file in data.glob(f"filtered/{name}/*")}
    schema = indexes(UNPREFIXED, DOCUMENT_TYPES)
    assert of_a_type["chunks"] == set(schema[POSTS])
    assert of_a_type["records"] == set(schema[UNPREFIXED.cleaned("posts")])
    tombstones = {file.name for file in data.glob("filtered/tombstones/*")}
    assert tombstones == set(schema[UNPREFIXED.tombstones])
    assert indexed(client) == {name: set(fields) for name, fields in schema.items()}


def test_a_store_of_an_earlier_version_gets_the_indexes_it_lacks_and_loses_the_others(
    client: QdrantClient,
) -> None:
    keyword, integer = q.PayloadSchemaType.KEYWORD, q.PayloadSchemaType.INTEGER
    vectors = {"dense": q.VectorParams(size=32, distance=q.Distance.COSINE)}
    client.create_collection(POSTS, vectors_config=vectors)
    for field in ("entry_id", "author_id", "platform", "chunk_hash", "link"):
        client.create_payload_index(POSTS, field, keyword)
    client.create_collection("cleaned_posts", vectors_config={})
    client.create_payload_index("cleaned_posts", "version", integer)
    client.create_collection("tombstones", vectors_config={})
    client.create_payload_index("tombstones", "version", integer)
    store = QdrantStore(client, DOCUMENT_TYPES)
    for _ in range(2):
        store.ensure_collections(32)
        found = indexed(client)
        # Somebody has indexed links for filters of their own.
        assert found.pop(POSTS) == {
            *("entry_id", "author_id", "platform", "path", "model", "link"),
            *("published_at", "updated_at", "language", "tags"),
        }
        assert found["cleaned_posts"] == {"machine_files", "chunks_left_out"}
        assert found["tombstones"] == {"type", "deleted_at"}


def test_indexes_exist_before_the_first_write(client: QdrantClient) -> None:
    calls: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(client, name)

    World(Watched()).apply(change("a", 1))  # type: ignore[arg-type]
    made = len(calls) - calls[::-1].index("create_payload_index")
    assert made <= calls.index("upsert")


@pytest.mark.parametrize("attempt", range(5))
def test_of_pipelines_that_start_at_once_one_gets_the_store(
    server: QdrantServer, attempt: int
) -> None:
    owners = [Owner("twin", "/", f"queue-{number}") for number in range(8)]

    def claim(owner: Owner) -> bool:
        store = QdrantStore(open_client(server.settings), DOCUMENT_TYPES)
        try:
            store.claim(owner)
        except ConfigurationError:
            return False
        finally:
            store.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, owners))
    assert won.count(True) == 1
    assert [claim(owner) for owner in owners] == won


def test_the_owner_survives_a_kill_of_the_server(server: QdrantServer) -> None:
    store = QdrantStore(open_client(server.settings), DOCUMENT_TYPES)
    store.claim(Owner("twin", "/", "one"))
    server.kill()
    server.start()
    with pytest.raises(ConfigurationError, match="queue one"):
        store.claim(Owner("twin", "/", "two"))


def test_a_foreign_store_ends_flow_and_commands_with_one_line(served: Place) -> None:
    store = QdrantStore(open_client(served.qdrant), DOCUMENT_TYPES)
    store.claim(Owner("another", "/", "default"))
    run_flow = ("bytewax.run", "tests.hashing_features")
    for command in (run_flow, ("tests.hashing_reconcile",), ("flows.replay",)):
        ended = run(served, *command)
        assert ended.returncode == 1, command
        assert "database another" in ended.stderr
        assert "QDRANT_COLLECTION_PREFIX" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert run(served, "retrieval.status").returncode == 0
    assert not open_client(served.qdrant).collection_exists(POSTS)


def test_two_pipelines_share_a_server_by_prefixes(served: Place) -> None:
    """A drop, and so the sweep of a snapshot, removes what its own pipeline stored and no more."""
    others = Flows(served, extra={"QDRANT_COLLECTION_PREFIX": "other_"})
    other = replace(served.qdrant, prefix="other_")
    client = open_client(other)
    stored = QdrantStore(client, DOCUMENT_TYPES, other.collections)
    stored.ensure_collections(HashingEmbedder.dimension)
    world = World(open_client(served.qdrant))
    world.apply(change("ours", 1))
    served.database["posts"].insert_one({"_id": "theirs", "content": "Theirs."})
    with others.both():
        deadline = time.monotonic() + 60
        while client.count(other.collections.cleaned("posts")).count != 1:
            others.check()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert set(others.stop().values()) == {0}
    assert world.words() == ["ours"]


def test_a_snapshot_and_reconcile_refill_an_emptied_collection_of_vectors(served: Place) -> None:
    load = Load(served, seed=9, documents=30)
    load.insert_all()
    flows = Flows(served, extra={"CDC_SNAPSHOT": "always"})
    client = open_client(served.qdrant)
    with flows.both():
        assert settle(served, flows, 60) == []
        assert set(flows.stop().values()) == {0}
        for type_ in DOCUMENT_TYPES:
            client.delete_collection(UNPREFIXED.vectors(type_))
        flows.start("features")
        flows.start("cdc")
        assert settle(served, flows, 60) == []
        for type_ in DOCUMENT_TYPES:
            client.delete(UNPREFIXED.vectors(type_), q.Filter())
        mended = run(served, "tests.hashing_reconcile")
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert settle(served, flows, 30) == []
        assert set(flows.stop().values()) == {0}
