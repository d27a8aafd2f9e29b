"""A queue with a limit of its length: the broker answers what it does not take with a nack."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pika.channel import Channel

from connectors.rabbitmq import RabbitMQPublisher, RabbitMQSettings, dead_letter_queue
from models import Message
from ops.rabbitmq_node import RabbitMQNode
from tests.chaos.harness import Flows, queue_depth, settle
from tests.chaos.test_confirms import ended, switch, wait_until
from tests.conftest import Place
from tests.unit.test_publisher import last_places

LIMIT = 50
WINDOW = 100
MESSAGES = 2000
FULL = "is it full?"


class Counting(RabbitMQPublisher):
    """Counts how often it has opened a channel."""

    channels = 0

    def on_channel(self, channel: Channel) -> None:
        self.channels += 1
        super().on_channel(channel)


@pytest.mark.slow
def test_a_full_queue_neither_reorders_nor_makes_its_publisher_spin(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """It published 19,600 times a second, and messages 50 to 59 arrived before 30 to 49."""
    limited = {
        "queue": place.queue,
        "durable": True,
        "arguments": {
            "x-queue-type": "quorum", "x-max-length": LIMIT, "x-overflow": "reject-publish",
        },
    }  # fmt: skip
    publisher = Counting(place.rabbitmq, [limited], WINDOW)
    publisher.start()
    publisher.submit([Message(place.queue, b"%d" % number) for number in range(MESSAGES)])
    wait_until("a refusal", lambda: FULL in caplog.text)
    began, opened = time.monotonic(), publisher.channels
    time.sleep(4)
    tried = publisher.channels - opened
    assert 1 <= tried <= 4 + 2 * (time.monotonic() - began), "it waits longer and longer"
    assert states(caplog) == ["away"]
    assert publisher.confirmed < LIMIT + WINDOW

    arrived: list[int] = []
    done = threading.Event()
    reader = threading.Thread(target=drain, args=(place, arrived, done))
    reader.start()
    try:
        publisher.flush()
        wait_until("all of it", lambda: queue_depth(place, place.queue) == 0)
    finally:
        done.set()
        reader.join()
        publisher.close()
    assert last_places(arrived) == list(range(MESSAGES)), "who reads it sees the newest last"
    again = sum(Counter(arrived).values()) - MESSAGES
    assert again <= WINDOW * caplog.text.count(FULL), "only what was unconfirmed comes again"
    said = states(caplog)
    assert said == ["away", "back"] * (len(said) // 2)


def states(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    return [line.split()[2].strip(",") for line in lines if line.startswith("RabbitMQ is ")]


def drain(place: Place, arrived: list[int], done: threading.Event) -> None:
    """Read the queue, with a pause now and then in which it is full again."""
    channel = place.channel()
    while not done.is_set():
        method, _, body = channel.basic_get(place.queue, auto_ack=True)
        if method is None:
            time.sleep(0.01)
            continue
        arrived.append(int(body))
        if len(arrived) % 500 == 0:
            time.sleep(0.5)
    channel.connection.close()


@pytest.fixture
def limited(place: Place, tmp_path: Path) -> Iterator[Place]:
    """A broker of its own, whose policy limits the length of the queue."""
    policy = {
        "vhost": "/", "name": "short", "pattern": f"^{place.queue}$", "apply-to": "queues",
        "priority": 0, "definition": {"max-length": LIMIT},
    }  # fmt: skip
    definitions = tmp_path / "definitions.json"
    definitions.write_text(json.dumps({"policies": [policy]}))
    with RabbitMQNode(tmp_path / "own-broker") as node:
        # not at its first start: a node with definitions makes no virtual host and no user
        switch(node, {"load_definitions": str(definitions)})
        yield replace(place, rabbitmq=RabbitMQSettings(port=node.port))


@pytest.mark.slow
def test_a_full_queue_loses_nothing_and_cdc_goes_on_when_it_is_read(limited: Place) -> None:
    """Also where cdc is killed while the queue refuses its messages."""
    posts = limited.database.posts
    posts.insert_many([{"_id": n, "content": f"text {n}"} for n in range(120)])
    flows = Flows(limited)
    try:
        flows.start("cdc")
        # so many are on their way before the queue says that it is full
        wait_until("a full queue", lambda: queue_depth(limited, limited.queue) > LIMIT)
        posts.insert_many([{"_id": n, "content": f"text {n}"} for n in range(120, 200)])
        for life in (1, 2):
            wait_until("a refusal", partial(refused, flows, life))
            posts.update_many({}, {"$set": {"content": f"edited {life}"}})
            posts.delete_many({"_id": {"$lt": life * 20}})
            time.sleep(3)
            assert refused(flows, life)
            assert not refused(flows, life + 1), "one line for a change of state"
            assert queue_depth(limited, limited.queue) < 200
            if life == 1:
                flows.kill("cdc")
        flows.start("features")
        assert settle(limited, flows, 120) == []
        assert set(flows.stop().values()) == {0}
    finally:
        ended(flows)
    assert queue_depth(limited, dead_letter_queue(limited.queue)) == 0


def refused(flows: Flows, times: int) -> bool:
    flows.check()
    return flows.running["cdc"].output().count(FULL) >= times
