"""Nothing is given up before everything made of it is confirmed, and nobody waits for a confirm.

A broker under an alarm (no disk, no memory) stops those who publish, and lets consumers go on.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.qdrant import cleaned, open_reader
from connectors.rabbitmq import (
    RabbitMQPublisher,
    RabbitMQSettings,
    dead_letter_queue,
    queue_names,
    topology,
)
from models import Message
from models.errors import StoreUnavailableError
from ops.rabbitmq_node import RabbitMQNode
from tests.chaos.harness import Flows, queue_depth, settle
from tests.chaos.proxy import Proxy
from tests.conftest import Place

NO_SPACE = {"disk_free_limit.absolute": "900000GB"}


def wait_until(what: str, check: Any, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def kill_all(flows: Flows) -> None:
    for process in flows.running.values():
        process.kill()
    flows.running.clear()


def ended(flows: Flows) -> None:
    for process in flows.running.values():
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.mark.parametrize(
    ("flows", "environment"),
    [
        ({}, {}),
        ({"recovery": True}, {}),
        ({}, {"BYTEWAX_WORKERS_PER_PROCESS": "2"}),
        ({"capture_processes": 2}, {}),
    ],
    ids=["plain", "recovery", "two workers", "cluster"],
)
def test_no_position_is_stored_before_the_broker_has_confirmed(
    place: Place, flows: dict[str, Any], environment: dict[str, str]
) -> None:
    """The broker goes away, ten documents are inserted, cdc is killed, the broker comes back."""
    with Proxy(place.rabbitmq.port) as proxy:
        extra = {**environment, "RABBITMQ_PORT": str(proxy.port)}
        run = Flows(place, partitions=2, extra=extra, **flows)
        queues = queue_names(place.queue, 2)
        try:
            place.database.posts.insert_one({"_id": "first", "content": "x"})
            run.start("cdc")
            # the document, and the sweep of three collections in each queue
            wait_until("a snapshot", lambda: sum(queue_depth(place, q) for q in queues) == 7)
            time.sleep(2)
            proxy.refuse(True)
            proxy.cut()
            assert proxy.cuts
            place.database.posts.insert_many([{"_id": f"{n}", "content": "x"} for n in range(10)])
            time.sleep(3.5)
            kill_all(run)
            proxy.refuse(False)
            run.start("cdc")
            wait_until("ten messages", lambda: sum(queue_depth(place, q) for q in queues) >= 17)
        finally:
            ended(run)
    names = [json.loads(body).get("entry_id") for q in queues for _, body in place.messages(q)]
    assert {f"{n}" for n in range(10)} <= set(names)


@pytest.fixture
def alarmed(place: Place, tmp_path: Path) -> Iterator[tuple[Place, RabbitMQNode]]:
    """A broker of its own, without an alarm yet."""
    with RabbitMQNode(tmp_path / "own-broker") as node:
        yield replace(place, rabbitmq=RabbitMQSettings(port=node.port)), node


def switch(node: RabbitMQNode, config: dict[str, str]) -> None:
    node.extra_config = config
    node.restart()


def fill(place: Place, healthy: int, poison: int, partitions: int = 1) -> None:
    """Put documents into the queues, and messages that are none among them."""
    queues = queue_names(place.queue, partitions)
    messages = [
        Message(queues[n % partitions], json.dumps(post(n)).encode()) for n in range(healthy)
    ]
    for n in range(poison):
        messages.insert(n * 7, Message(queues[n % partitions], b"no json"))
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue, partitions))
    publisher.start()
    publisher.submit(messages)
    publisher.flush()
    publisher.close()


def post(number: int) -> dict[str, str]:
    return {"type": "posts", "entry_id": f"post-{number}", "content": f"text {number}"}


def left(place: Place, partitions: int = 1) -> int:
    return sum(queue_depth(place, queue) for queue in queue_names(place.queue, partitions))


def stored(place: Place) -> int:
    """Documents that are in the store."""
    with suppress(StoreUnavailableError), open_reader(place.qdrant) as client:
        if client.collection_exists(cleaned("posts")):
            return client.count(cleaned("posts")).count
    return 0


def drain(run: Flows, place: Place, partitions: int = 1) -> None:
    """Let the features flow acknowledge everything; what it merely holds is counted by nobody."""
    for _ in range(10):
        wait_until("an empty queue", lambda: left(place, partitions) == 0)
        time.sleep(1.5)
        assert set(run.stop().values()) == {0}
        if left(place, partitions) == 0:
            return
        run.start("features")
    raise AssertionError("some messages are never acknowledged")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flows",
    [{}, {"recovery": True}, {"partitions": 2, "workers": 2}],
    ids=["plain", "recovery", "two workers"],
)
def test_an_alarm_stops_dead_letters_and_not_the_features_flow(
    alarmed: tuple[Place, RabbitMQNode], flows: dict[str, Any]
) -> None:
    """600 documents and five poisoned messages pass a prefetch of 100; the five stay in the queue
    until their dead letters are confirmed, also across a kill -9.
    """
    place, node = alarmed
    partitions = flows.get("partitions", 1)
    dlq = dead_letter_queue(place.queue)
    fill(place, 600, 5, partitions)
    switch(node, NO_SPACE)
    run = Flows(place, extra={"RABBITMQ_PREFETCH": "100"}, **flows)
    try:
        run.start("features")
        wait_until("an empty queue", lambda: left(place, partitions) == 0)
        time.sleep(3)
        kill_all(run)
        wait_until("what was not acknowledged", lambda: left(place, partitions) == 5, 10)
        assert queue_depth(place, dlq) == 0
        run.start("features")
        time.sleep(4)
        switch(node, {})
        wait_until("all dead letters", lambda: queue_depth(place, dlq) >= 5)
        drain(run, place, partitions)
    finally:
        ended(run)
    assert {body for _, body in place.messages(dlq)} == {b"no json"}


@pytest.mark.slow
def test_an_alarm_stops_the_change_stream_and_not_the_rest_of_the_pipeline(
    alarmed: tuple[Place, RabbitMQNode],
) -> None:
    place, node = alarmed
    fill(place, 300, 1)
    documents = [{"_id": f"post-{n}", "content": f"text {n}"} for n in range(450)]
    place.database.posts.insert_many(documents)
    switch(node, NO_SPACE)
    run = Flows(place, features="tests.hashing_pipeline", extra={"RABBITMQ_PREFETCH": "50"})
    try:
        run.start("features")
        wait_until("an empty queue", lambda: left(place) == 0)
        time.sleep(3)
        kill_all(run)
        wait_until("the poisoned message", lambda: left(place) == 1, 10)
        switch(node, {})
        run.start("features")
        assert settle(place, run, 90) == []
        assert set(run.stop().values()) == {0}
    finally:
        ended(run)


@pytest.mark.slow
def test_the_end_of_a_flow_acknowledges_what_an_alarm_does_not_hold_back(
    alarmed: tuple[Place, RabbitMQNode],
) -> None:
    place, node = alarmed
    fill(place, 60, 2)
    switch(node, NO_SPACE)
    run = Flows(place, bare=True)
    try:
        run.start("features")
        wait_until("all documents in the store", lambda: stored(place) == 60)
        began = time.monotonic()
        assert run.running["features"].terminate() == 0
        assert time.monotonic() - began < 12
    finally:
        ended(run)
    wait_until("both poisoned messages", lambda: left(place) == 2, 10)


def test_a_connection_that_is_lost_while_dead_letters_wait_loses_none(place: Place) -> None:
    """A new channel: what is held back comes again, and tags of the old one mean nothing."""
    fill(place, 30, 6)
    with Proxy(place.rabbitmq.port) as proxy:
        run = Flows(place, extra={"RABBITMQ_PORT": str(proxy.port)})
        try:
            run.start("features")
            wait_until("connections", lambda: proxy.connections >= 2)
            for _ in range(4):
                time.sleep(0.5)
                proxy.refuse(True)
                proxy.cut()
                time.sleep(0.3)
                proxy.refuse(False)
            drain(run, place)
        finally:
            ended(run)
        assert proxy.cuts >= 2
    letters = place.messages(dead_letter_queue(place.queue))
    assert len(letters) >= 6
