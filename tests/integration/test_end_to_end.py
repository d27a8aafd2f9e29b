"""Both real commands with the real model: languages, poison, searches beside a running flow."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pika
import pytest

from connectors.qdrant import cleaned, open_reader, vectors_of
from connectors.rabbitmq import dead_letter_queue, publish_to_rabbitmq
from flows.embedding.embedder import Embedder
from tests.chaos.harness import Flows, queue_depth
from tests.conftest import Place
from tests.oracle import wait_in_sync
from tests.processes import ROOT, FlowProcess

TEXTS = {
    "zh": "更改流会把数据库中的每次修改立即发送到消息队列，然后更新向量索引。",
    "ar": "يتم تحديث فهرس المتجهات فور تغيير المستند في قاعدة البيانات.",
    "fr": "Dès qu'un document est modifié, l'index est mis à jour : c'est l'été à Besançon.",
}
CODE = 'def greet(name):\n\t"""Größe <b>&amp;</b> 𝐛𝐨𝐥𝐝\u200b."""\n    return f"{name!r}  "\n'


@pytest.fixture(scope="module")
def model() -> Embedder:
    return Embedder("")


def run(place: Place, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **place.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def payloads(place: Place, collection: str) -> list[dict[str, Any]]:
    with open_reader(place.qdrant) as client:
        return [dict(r.payload or {}) for r in client.scroll(collection, limit=1000)[0]]


def test_languages_code_and_searches_with_the_real_model(place: Place, model: Embedder) -> None:
    posts, repositories = place.database.posts, place.database.repositories
    posts.insert_many([{"_id": key, "content": {"text": t}} for key, t in TEXTS.items()])
    repositories.insert_one(
        {"_id": 1, "name": "r", "link": "l", "owner_id": "o", "content": {"a.py": CODE}}
    )
    flows = Flows(place, features="flows.features")
    with flows.both():
        wait_in_sync(place.database, place.qdrant, model, 90, flows.check)
        posts.update_one({"_id": "fr"}, {"$set": {"platform": "web"}})
        posts.insert_one({"_id": "noise", "content": "The weather report for tomorrow."})
        posts.delete_one({"_id": "zh"})
        posts.insert_one({"_id": "zh2", "content": TEXTS["zh"]})
        wait_in_sync(place.database, place.qdrant, model, 60, flows.check)

        for text in TEXTS.values():
            found = run(place, "retrieval.search", "--json", "--limit", "1", "--", text)
            assert found.returncode == 0, found.stderr
            assert text in found.stdout or json.dumps(text)[1:-1] in found.stdout
        assert run(place, "retrieval.status").returncode == 0
        assert flows.stop() == {"cdc": 0, "features": 0}
    texts = {p["entry_id"]: p["cleaned_content"] for p in payloads(place, cleaned("posts"))}
    assert {texts["zh2"], texts["ar"], texts["fr"]} == set(TEXTS.values())
    [record] = payloads(place, cleaned("repositories"))
    assert CODE in record["cleaned_content"]
    chunks = payloads(place, vectors_of("repositories"))
    assert "".join(c["content"] for c in chunks).split() == CODE.split()


def test_the_whole_pipeline_in_one_process(place: Place, model: Embedder) -> None:
    posts = place.database.posts
    posts.insert_many([{"_id": i, "content": f"Post number {i}."} for i in range(20)])
    log = place.folder / "pipeline.log"
    with FlowProcess("flows.pipeline", place.environment, log) as process:
        wait_in_sync(place.database, place.qdrant, model, 90, process.check)
        posts.update_many({"_id": {"$lt": 5}}, {"$set": {"content": "Another text."}})
        posts.delete_many({"_id": {"$gte": 15}})
        wait_in_sync(place.database, place.qdrant, model, 60, process.check)
        assert process.terminate() == 0


@pytest.mark.parametrize("flow", ["cdc", "features", "pipeline"])
def test_a_flow_can_be_drawn(flow: str) -> None:
    command = [sys.executable, "-m", "bytewax.visualize", f"flows.{flow}", "-o", "mermaid"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("flowchart TD")


def test_poison_ends_in_the_dead_letter_queue_and_its_neighbours_arrive(place: Place) -> None:
    poison = [
        b"this is no JSON",
        json.dumps({"type": "videos", "entry_id": "x", "content": "y"}).encode(),
        json.dumps({"type": "posts", "entry_id": "x"}).encode(),
        os.urandom(5_000_000),
    ]
    flows = Flows(place)
    for index, body in enumerate(poison):
        publish_to_rabbitmq(place.queue, body, settings=place.rabbitmq)
        neighbour = {"type": "posts", "entry_id": f"good-{index}", "content": f"text {index}"}
        publish_to_rabbitmq(place.queue, neighbour, settings=place.rabbitmq)
    flows.start("features")
    with flows.running["features"]:
        deadline = time.monotonic() + 30
        dlq = dead_letter_queue(place.queue)
        while queue_depth(place, dlq) < len(poison) and time.monotonic() < deadline:
            flows.check()
            time.sleep(0.2)
        assert flows.running["features"].terminate() == 0
    assert {p["entry_id"] for p in payloads(place, cleaned("posts"))} == {
        f"good-{index}" for index in range(len(poison))
    }
    letters = place.messages(dlq)
    assert sorted(body for _, body in letters) == sorted(poison)
    assert all(properties.headers["reason"] for properties, _ in letters)
    assert queue_depth(place, place.queue) == 0


def test_a_message_that_kills_the_process_each_time_dies_alone(place: Place) -> None:
    """Delivered twenty times, it goes to the dead letters; its neighbours do not."""
    publish_to_rabbitmq(place.queue, b"{}", settings=place.rabbitmq)
    connection = pika.BlockingConnection(place.rabbitmq.parameters())
    for _ in range(25):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        for method, _properties, _body in channel.consume(place.queue, inactivity_timeout=0.5):
            if method is not None:
                channel.basic_nack(method.delivery_tag)
            break
        channel.close()
        if queue_depth(place, dead_letter_queue(place.queue)):
            break
    connection.close()
    [(properties, body)] = place.messages(dead_letter_queue(place.queue))
    assert body == b"{}"
    assert properties.headers["x-first-death-reason"] == "delivery_limit"


def test_the_model_is_the_published_one() -> None:
    from hashlib import sha256

    from flows.embedding.embedder import locate_model

    weights = Path(locate_model("")[0]) / "model.safetensors"
    assert sha256(weights.read_bytes()).hexdigest() == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
