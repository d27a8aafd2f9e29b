"""A Qdrant server in place of the embedded store: Qdrant's engine behind its gRPC services.

See `tests.qdrant_server` for what is real about it. The tests of the index step run here again.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from qdrant_client import QdrantClient, models

from connectors.qdrant import QdrantStore, cleaned, open_client, vectors_of
from connectors.qdrant.answers import is_away, translated
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError, ContentRefusedError
from ops.local_server import free_port
from tests.chaos.harness import Flows, Load, settle
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.processes import ROOT
from tests.qdrant_server import MAX_REQUEST_BYTES, QdrantServer
from tests.unit.test_index import *  # noqa: F403 (the same tests, on this `world`)
from tests.unit.test_index import World


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path_factory.mktemp("qdrant-server")) as server:
        yield server


@pytest.fixture
def world(server: QdrantServer) -> Iterator[World]:
    client = open_client(server.settings)
    for name in [name for type_ in DOCUMENT_TYPES for name in (cleaned(type_), vectors_of(type_))]:
        _empty(client, name)
    _empty(client, "tombstones")
    world = World(client)
    yield world
    world.store.close()


def _empty(client: QdrantClient, name: str) -> None:
    if client.collection_exists(name):
        points, _ = client.scroll(name, limit=10_000, with_payload=False)
        if points:
            client.delete(name, [point.id for point in points])


def run(place: Place, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=90,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place.folder), **place.environment, **extra},
        check=False,
    )  # fmt: skip


def test_two_processes_may_create_the_collections_at_once(tmp_path: Path) -> None:
    with QdrantServer(tmp_path) as server:
        stores = [QdrantStore(open_client(server.settings), DOCUMENT_TYPES) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda store: store.ensure_collections(8), stores))
        with pytest.raises(ConfigurationError, match="16 components"):
            stores[0].ensure_collections(16)


def test_everything_survives_a_kill_of_the_server(tmp_path: Path) -> None:
    with QdrantServer(tmp_path) as server:
        world = World(open_client(server.settings))
        world.apply(change("a b c", 2**62 + 1))  # noqa: F405
        server.kill()
        server.start()
        assert world.words() == ["a", "b", "c"]
        assert (world.record() or {})["version"] == 2**62 + 1


def test_a_collection_that_a_killed_server_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "data" / "tombstones" / "shard").mkdir(parents=True)
    with QdrantServer(tmp_path) as server:
        client = open_client(server.settings)
        assert not client.collection_exists("tombstones")
        client.create_collection("tombstones", vectors_config={})
        server.kill()
        server.start()
        assert client.collection_exists("tombstones")


def test_a_request_that_is_too_large_is_refused_and_not_waited_for(server: QdrantServer) -> None:
    client = open_client(server.settings)
    QdrantStore(client, DOCUMENT_TYPES).ensure_collections(HashingEmbedder.dimension)
    point = models.PointStruct(id=1, vector={}, payload={"text": "x" * MAX_REQUEST_BYTES})
    with pytest.raises(grpc.RpcError) as caught:
        client.upsert(cleaned("posts"), [point])
    assert not is_away(caught.value)
    assert isinstance(translated(caught.value), ContentRefusedError)


def test_flows_status_and_reconciliation_on_a_server(served: Place) -> None:
    load = Load(served, seed=5, documents=30)
    load.insert_all()
    flows = Flows(served)
    with flows.both():
        assert settle(served, flows, 60) == []
        status = run(served, "retrieval.status")
        assert status.returncode == 0, status.stdout + status.stderr
        client = open_client(served.qdrant)
        points, _ = client.scroll(vectors_of("posts"), limit=3, with_payload=False)
        client.delete(vectors_of("posts"), [point.id for point in points])
        assert settle(served, flows, 0) != []
        mended = run(served, "tests.hashing_reconcile")
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert "everything is repaired" in mended.stdout
        assert settle(served, flows, 0) == []
        assert set(flows.stop().values()) == {0}


@pytest.mark.parametrize(
    "command",
    [
        ("retrieval.status",),
        ("retrieval.search", "words"),
        ("tests.hashing_reconcile",),
    ],
    ids=lambda command: command[-1],
)
def test_a_server_that_is_not_there_is_one_line(place: Place, command: tuple[str, ...]) -> None:
    extra = {"QDRANT_URL": "http://127.0.0.1", "QDRANT_GRPC_PORT": str(free_port())}
    ended = run(place, *command, **extra)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "Qdrant" in ended.stdout + ended.stderr


def test_a_key_and_a_certificate(place: Place, certificates: Path, tmp_path: Path) -> None:
    chain = (certificates / "server.pem", certificates / "server.key")
    secret = "s3cret-k3y"
    with QdrantServer(tmp_path / "server", api_key=secret, certificate=chain) as server:
        trusted = replace(server.settings, ca_file=str(certificates / "ca.pem"))
        world = World(open_client(trusted))
        world.apply(change("a b", 1))  # noqa: F405
        assert world.words() == ["a", "b"]
        assert secret not in repr(trusted)
        for wrong in (replace(trusted, api_key="no"), replace(trusted, ca_file="")):
            ended = run(
                place, "retrieval.status", QDRANT_URL=wrong.url, QDRANT_API_KEY=wrong.api_key,
                QDRANT_GRPC_PORT=str(wrong.grpc_port), QDRANT_CA_FILE=wrong.ca_file,
            )  # fmt: skip
            assert ended.returncode == 1
            assert "Qdrant cannot be read" in ended.stdout
            assert secret not in ended.stdout + ended.stderr
