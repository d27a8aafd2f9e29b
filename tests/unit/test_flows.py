"""Both flows from end to end without services: `TestingSource` in, a list out."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.testing import TestingSink, TestingSource, run_main
from qdrant_client import QdrantClient

from connectors.qdrant import QdrantStore, cleaned, vectors_of
from connectors.qdrant.requests import tombstone
from flows import cdc, features
from flows.embedding.embedder import lazily
from flows.operators.index import Indexer
from flows.settings import Settings
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES, CapturedChange, ChangeEvent, Delivery, Message, Version
from models.identity import record_id
from tests.hashing import HashingEmbedder

HASHING = HashingEmbedder()
CHUNKER = lazily(lambda: Chunker(HASHING.tokenizer, HASHING.max_tokens))


def delivery(change: CapturedChange) -> Delivery:
    message = ChangeEvent.from_change(change).to_message("default")
    return Delivery("default", message.body, message.headers)


def upsert(
    entry_id: str, content: Any, version: int = 1, collection: str = "posts", **fields: Any
) -> Delivery:
    document = {"_id": entry_id, "content": content, "platform": "x", **fields}
    return delivery(CapturedChange("insert", collection, version, entry_id, document))


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def run(client: QdrantClient, deliveries: list[Delivery], batch_size: int = 10) -> list[Message]:
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.ensure_collections(HASHING.dimension)
    dead: list[Message] = []
    flow = features.build(
        TestingSource(deliveries, batch_size),
        CHUNKER,
        Indexer(store, HASHING),
        dead.extend,
    )
    run_main(flow, epoch_interval=timedelta(0))
    return dead


def payloads(client: QdrantClient, collection: str) -> list[dict[str, Any]]:
    return [dict(r.payload or {}) for r in client.scroll(collection, limit=1000)[0]]


def test_cdc_puts_each_change_of_a_document_into_the_same_queue() -> None:
    changes = [
        CapturedChange(op, "posts", version, id_, {"_id": id_, "content": "x"})
        for version, (op, id_) in enumerate([("insert", "a"), ("insert", "b"), ("update", "a")])
    ]
    changes.append(CapturedChange("delete", "posts", 9, "b"))
    changes.append(CapturedChange("drop", "posts", 10))
    out: list[Message] = []
    flow = cdc.build(TestingSource(changes), out.extend, "q", partitions=4)
    run_main(flow, epoch_interval=timedelta(0))
    queues: dict[str, set[str]] = {}
    for message in out:
        entry_id = json.loads(message.body).get("entry_id", "")
        queues.setdefault(entry_id, set()).add(message.queue)
    assert len(queues["a"]) == len(queues["b"]) == 1
    assert queues[""] == {"q.0", "q.1", "q.2", "q.3"}


def test_cdc_sends_what_has_no_message_to_the_dead_letters() -> None:
    changes = [
        CapturedChange("insert", "posts", 1, "a", {"_id": "a", "content": object()}),
        CapturedChange("insert", "posts", 2, "b", {"_id": "b", "content": "x"}),
    ]
    out: list[Message] = []
    run_main(cdc.build(TestingSource(changes), out.extend, "q"), epoch_interval=timedelta(0))
    assert sorted((message.queue, message.headers["op"]) for message in out) == [
        ("q", "delete"), ("q", "insert"), ("q.dlq", "insert"),
    ]  # fmt: skip


def test_cdc_sends_what_no_broker_takes_to_the_dead_letters() -> None:
    document = {"_id": "a", "content": "x" * (17 * 2**20)}
    out: list[Message] = []
    flow = cdc.build(
        TestingSource([CapturedChange("update", "posts", 1, "a", document)]), out.extend
    )
    run_main(flow, epoch_interval=timedelta(0))
    assert sorted(message.queue for message in out) == ["default", "default.dlq"]
    [letter] = [message for message in out if message.queue == "default.dlq"]
    assert "larger than what a broker takes" in letter.headers["reason"]


def test_a_document_becomes_a_record_and_chunks(client: QdrantClient) -> None:
    article = {"Title": "Über Vektoren", "Content": "<p>Grüße, 世界!</p>", "language": "de"}
    code = {"a.py": "def f():\n    return '<b>'\n"}
    dead = run(
        client,
        [
            upsert("1", "Plain <b>text</b> of a post", author_id="me"),
            upsert("2", article, 2, "articles", author_id="me", link="l"),
            upsert("3", code, 3, "repositories", name="r", owner_id="you"),
        ],
    )
    assert dead == []
    [post] = payloads(client, cleaned("posts"))
    assert (post["cleaned_content"], post["author_id"]) == ("Plain text of a post", "me")
    [article_record] = payloads(client, cleaned("articles"))
    assert article_record["cleaned_content"] == "Über Vektoren\n\nGrüße, 世界!"
    [chunk] = payloads(client, vectors_of("repositories"))
    assert chunk["content"].rstrip() == code["a.py"].rstrip()
    assert (chunk["path"], chunk["author_id"], chunk["name"]) == ("a.py", "you", "r")
    assert set(chunk) >= {
        "entry_id", "type", "author_id", "platform", "link", "name", "path", "content",
        "version", "chunk_hash", "model",
    }  # fmt: skip
    assert "position" not in chunk


POISON = [
    Delivery("default", b"no json"),
    Delivery("default", b"\x00\xff" * 2_500_000),
    Delivery("default", b'{"type": "videos", "entry_id": "a", "content": "x"}'),
    Delivery("default", b'{"type": "posts", "entry_id": "a"}'),
]


@pytest.mark.parametrize("batch_size", [1, 10])
def test_poison_goes_to_the_dead_letters_and_its_neighbours_arrive(
    client: QdrantClient, batch_size: int
) -> None:
    good = [upsert(str(i), f"text {i}") for i in range(4)]
    mixed = [item for pair in zip(POISON, good, strict=True) for item in pair]
    dead = run(client, mixed, batch_size)
    assert sorted(m.body for m in dead) == sorted(p.body for p in POISON)
    assert {m.queue for m in dead} == {"default.dlq"}
    assert all(m.headers["reason"] for m in dead)
    assert len(payloads(client, cleaned("posts"))) == 4


def test_a_version_without_content_takes_the_older_one_away(client: QdrantClient) -> None:
    dead = run(client, [upsert("1", "text", 1), upsert("1", None, 2)], batch_size=1)
    assert [(m.headers["document_id"], m.headers["version"]) for m in dead] == [("1", 2)]
    assert payloads(client, cleaned("posts")) == payloads(client, vectors_of("posts")) == []
    assert run(client, [upsert("1", "late", 1)]) == []
    assert payloads(client, cleaned("posts")) == []


def test_a_broken_message_of_another_producer_takes_nothing_away(client: QdrantClient) -> None:
    run(client, [upsert("1", "text", 1)])
    assert len(run(client, [Delivery("default", b'{"type": "posts", "entry_id": "1"}')])) == 1
    assert len(payloads(client, cleaned("posts"))) == 1


def test_tombstones_are_forgotten_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"QDRANT_PATH": str(tmp_path / "qdrant"), "TOMBSTONE_RETENTION_DAYS": "0.001"}
    settings = Settings.from_env(environment)
    features_of = features.ModelAndStore(settings, HashingEmbedder())
    features_of([])
    client = features_of.store()._client.attempt(lambda client: client)
    old = tombstone(record_id("posts", "a"), "posts", "a", Version(1))
    assert old.payload is not None
    old.payload["deleted_at"] -= 3600
    client.upsert("tombstones", [old])
    features_of([])
    assert client.count("tombstones").count == 1
    monkeypatch.setattr(features_of, "_prune_at", 0.0)
    features_of([])
    assert client.count("tombstones").count == 0
    features_of.close()


def test_a_dataflow_can_end_in_a_testing_sink() -> None:
    change = CapturedChange("insert", "posts", 1, "a", {"_id": "a", "content": "text"})
    out: list[tuple[str, Message]] = []
    flow = cdc.build(TestingSource([change]), TestingSink(out), "q")
    run_main(flow, epoch_interval=timedelta(0))
    assert [(queue, message.headers["op"]) for queue, message in out] == [("q", "insert")]
