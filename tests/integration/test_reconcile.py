"""Reconciliation and replay against real servers, beside running flows."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pika
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import VECTOR_NAME, QdrantStore, cleaned, open_client, vectors_of
from connectors.rabbitmq import dead_letter_queue, topology
from models import DOCUMENT_TYPES, CapturedChange, ChangeEvent, DeadLetter, Delivery
from models.identity import record_id
from tests.chaos.harness import Flows, Load, queue_depth, settle
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.oracle import differences
from tests.processes import ROOT


def run(place: Place, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **place.environment, "LOG_LEVEL": "ERROR", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def reconcile(place: Place, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(place, "tests.hashing_reconcile", *options, **environment)


def damage(client: QdrantClient) -> None:
    """One fault of each kind."""
    records = [str(r.id) for r in client.scroll(cleaned("posts"), limit=100)[0]]
    chunks = client.scroll(vectors_of("articles"), limit=100, with_vectors=True)[0]
    client.delete(cleaned("posts"), q.PointIdsList(points=records[:1]))
    client.set_payload(cleaned("posts"), {"text_hash": "forged"}, points=records[1:2])
    client.delete(vectors_of("articles"), q.PointIdsList(points=[chunks[0].id]))
    client.set_payload(vectors_of("articles"), {"content": "forged"}, points=[chunks[-1].id])
    stray = q.PointStruct(
        id=record_id("articles", "stray chunk"), vector=chunks[1].vector, payload=chunks[1].payload
    )
    nobody = {**(chunks[1].payload or {}), "entry_id": "nobody"}
    orphan = q.PointStruct(
        id=record_id("articles", "nobody's"), vector=chunks[1].vector, payload=nobody
    )
    client.upsert(vectors_of("articles"), [stray, orphan])
    ghost = {"entry_id": "ghost", "type": "repositories", "version": 1, "chunk_ids": []}
    point = q.PointStruct(id=record_id("repositories", "ghost"), vector={}, payload=ghost)
    client.upsert(cleaned("repositories"), [point])
    assert VECTOR_NAME == "dense"


def wait_for_a_consumer(place: Place, timeout: float = 30) -> None:
    connection = pika.BlockingConnection(place.rabbitmq.parameters())
    channel = connection.channel()
    deadline = time.monotonic() + timeout
    while not channel.queue_declare(place.queue, passive=True).method.consumer_count:
        assert time.monotonic() < deadline, "nobody consumes"
        time.sleep(0.05)
    connection.close()


def test_reconcile_finds_and_repairs_every_kind_of_damage(place: Place) -> None:
    Load(place, seed=5, documents=40).insert_all()
    flows = Flows(place)
    with flows.both():
        assert settle(place, flows, 60) == []
        clean = reconcile(place)
        assert (clean.returncode, clean.stdout.strip()) == (0, "reconcile: nothing is wrong")
        assert flows.running["features"].terminate() == 0
        client = open_client(place.qdrant)
        damage(client)
        client.close()
        found = len(differences(place.database, place.qdrant, HashingEmbedder()))
        assert found >= 7

        for dry in (reconcile(place, "--report-only"), reconcile(place, RECONCILE_REPAIR="false")):
            assert dry.returncode == 0
            for kind in ("missing", "stale", "orphaned document", "orphaned chunks"):
                assert kind in dry.stdout, dry.stdout
            assert "nothing was repaired" in dry.stdout
        some = reconcile(place, "--report-only", "--type", "repositories").stdout
        assert some.startswith("orphaned document: repositories ghost\nreconcile: 1 orphaned")
        assert len(differences(place.database, place.qdrant, HashingEmbedder())) == found

        flows.start("features")
        wait_for_a_consumer(place)  # without one, repairs are left in the queue
        repaired = reconcile(place)
        assert repaired.returncode == 0, repaired.stdout + repaired.stderr
        assert "everything is repaired" in repaired.stdout
        assert differences(place.database, place.qdrant, HashingEmbedder()) == []
        assert set(flows.stop().values()) == {0}


def test_reconcile_without_servers_is_one_line_and_exit_code_1(place: Place) -> None:
    result = reconcile(
        place, MONGO_DATABASE_HOST="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"
    )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_reconciliation_in_one_line(place: Place, number: int) -> None:
    text = "Ein Satz, der zu zerlegen ist, und noch einer. " * 2000
    place.database.posts.insert_many([{"_id": n, "content": f"{n} {text}"} for n in range(200)])
    with closing(open_client(place.qdrant)) as client:
        QdrantStore(client, DOCUMENT_TYPES).ensure_collections(HashingEmbedder.dimension)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hashing_reconcile"],
        cwd=ROOT,
        env={**os.environ, **place.environment, "LOG_LEVEL": "INFO"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        while "comparing posts, articles, repositories" not in (line := process.stderr.readline()):
            assert line, "it has ended"
        time.sleep(0.5)  # within the dataflow
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "reconcile: interrupted\n")
    assert queue_depth(place, place.queue) == 0


def test_reconcile_shows_no_terminal_escapes_of_a_document(place: Place) -> None:
    evil = "\x1b]52;c;cm0=\x07\x1b[2J\x9b31m\nreconcile: nothing is wrong\n\u202e"
    place.database.posts.insert_one({"_id": evil, "content": "x"})
    with closing(open_client(place.qdrant)) as client:
        QdrantStore(client, DOCUMENT_TYPES).ensure_collections(HashingEmbedder.dimension)
    shown = reconcile(place, "--report-only").stdout.splitlines()
    assert len(shown) == 3
    assert shown[0].startswith(r"missing: posts \x1b]52;c;cm0=\x07\x1b[2J\x9b31m\nreconcile: noth")
    assert shown[1] == "reconcile: 1 missing"
    assert all(line.isprintable() for line in shown)


def dead(place: Place, change: CapturedChange) -> Any:
    message = ChangeEvent.from_change(change).to_message(place.queue)
    delivery = Delivery(place.queue, message.body, message.headers)
    letter = DeadLetter.of(delivery, "index", ValueError("a bug that is mended by now"))
    return letter.to_message(dead_letter_queue(place.queue))


def test_a_replay_never_overwrites_something_newer(place: Place) -> None:
    from tests.integration.test_rabbitmq import publish

    posts = place.database.posts
    posts.insert_many(
        [{"_id": "old", "content": "newer text"}, {"_id": "lost", "content": "found"}]
    )
    flows = Flows(place)
    with flows.both():
        assert settle(place, flows, 60) == []
        older = int(time.time() - 3600) << 32
        newest = int(time.time() + 60) << 32
        publish(
            place,
            [
                dead(
                    place,
                    CapturedChange("update", "posts", older, "old", {"content": "older text"}),
                ),
                dead(
                    place, CapturedChange("update", "posts", newest, "lost", {"content": "found"})
                ),
            ],
        )
        assert queue_depth(place, dead_letter_queue(place.queue)) == 2
        result = run(place, "flows.replay")
        assert result.returncode == 0, result.stderr
        assert "superseded by a newer version: posts old" in result.stdout
        assert "1 put back, 1 superseded" in result.stdout
        assert settle(place, flows, 30) == []
        assert queue_depth(place, dead_letter_queue(place.queue)) == 0
        assert set(flows.stop().values()) == {0}
    assert topology(place.queue)
