"""Sink, source, connection and topology against a real broker."""

import gc
import threading
import time
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import bytewax.operators as op
import pika
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from connectors.rabbitmq import (
    RabbitMQConnection,
    RabbitMQPublisher,
    RabbitMQSettings,
    RabbitMQSource,
    link,
    publish_to_rabbitmq,
    topology,
)
from connectors.rabbitmq import consumer as consuming
from connectors.rabbitmq.consumer import CAREFUL_AFTER, Consumer
from flows.operators.publish import publish as publish_step
from models import Delivery, Message
from tests.chaos.proxy import Proxy
from tests.conftest import Place


def publish(place: Place, messages: list[Message]) -> None:
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue), window=64)
    publisher.start()
    for begin in range(0, len(messages), 50):
        publisher.submit(messages[begin : begin + 50])
    publisher.flush()
    publisher.close()


def consume(
    place: Place, count: int, *, finish: bool = True, prefetch: int = 100
) -> list[Delivery]:
    """Run a dataflow until `count` messages have come.

    :param finish: acknowledge all of them; else none, since its only epoch is closed by its end
    """
    stopping = threading.Event()
    letters = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    source = RabbitMQSource(
        place.rabbitmq, place.queue, letters, prefetch=prefetch, stopping=stopping
    )
    seen: list[Delivery] = []

    def collect(delivery: Delivery) -> Delivery:
        seen.append(delivery)
        if len(seen) >= count:
            stopping.set()
        return delivery

    flow = Dataflow("consume")
    stream = op.map("collect", op.input("in", flow, source), collect)
    publish_step("out", op.filter_map("none", stream, lambda _: None), letters.submit)
    watchdog = threading.Timer(30, stopping.set)
    watchdog.start()
    run_main(flow, epoch_interval=timedelta(milliseconds=50) if finish else timedelta(hours=1))
    watchdog.cancel()
    if finish:
        assert source.finish()
    source.close()
    letters.close()
    return seen


def test_everything_published_arrives_in_order_and_once(place: Place) -> None:
    messages = [Message(place.queue, b"%d" % i, {"version": 2**62 + i}) for i in range(500)]
    publish(place, messages)
    deliveries = consume(place, 500)
    assert [d.body for d in deliveries] == [m.body for m in messages]
    assert [d.headers["version"] for d in deliveries] == [2**62 + i for i in range(500)]
    assert not any(d.redelivered for d in deliveries)
    assert place.messages(place.queue) == []


def test_what_was_not_acknowledged_comes_again_marked(place: Place) -> None:
    publish(place, [Message(place.queue, b"a"), Message(place.queue, b"b")])
    consume(place, 2, finish=False)
    again = consume(place, 2)
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [
        (b"a", True),
        (b"b", True),
    ]


def test_messages_are_persistent_and_described(place: Place) -> None:
    publish(place, [Message(place.queue, b"{}", {"op": "insert"}, "insert", "id-1")])
    [(properties, _)] = place.messages(place.queue)
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert (properties.type, properties.message_id) == ("insert", "id-1")
    assert abs(properties.timestamp - time.time()) < 60


def test_the_publisher_survives_a_deleted_queue(place: Place) -> None:
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    publisher.start()
    channel = place.channel()
    for number in range(10):
        if number == 5:
            publisher.flush()
            channel.queue_delete(place.queue)
        publisher.submit([Message(place.queue, b"%d" % number)])
    publisher.flush()
    publisher.close()
    bodies = [body for _, body in place.messages(place.queue)]
    assert list(dict.fromkeys(bodies)) == [b"5", b"6", b"7", b"8", b"9"]


def test_a_large_backlog_waits_in_the_spool(place: Place) -> None:
    bodies = [bytes([65 + i]) * 6_000_000 for i in range(12)]
    publish(place, [Message(place.queue, body) for body in bodies])
    assert [d.body for d in consume(place, 12)] == bodies


def test_bodies_that_wait_are_not_all_in_memory(place: Place) -> None:
    """A prefetch counts messages, however large."""
    bodies = [bytes([65 + i]) * 6_000_000 for i in range(12)]
    publish(place, [Message(place.queue, body) for body in bodies])
    consumer = Consumer(place.rabbitmq, topology(place.queue), place.queue, 100)
    consumer.start()
    deadline = time.monotonic() + 30
    while len(consumer._buffer) < len(bodies):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sum(len(waiting.delivery.body) for waiting in consumer._buffer) <= 32 * 2**20
    assert [delivery.body for delivery in consumer.take(100, 2**30)] == bodies
    consumer.close()


def test_connection_publishes_for_other_producers(place: Place) -> None:
    publish_to_rabbitmq(place.queue, {"type": "posts"}, settings=place.rabbitmq)
    [(properties, body)] = place.messages(place.queue)
    assert body == b'{"type": "posts"}'
    assert properties.delivery_mode == 2
    connection = RabbitMQConnection(settings=place.rabbitmq)
    assert not connection.is_connected()
    with pytest.raises(ConnectionError, match="connect"):
        connection.get_channel()
    with connection:
        assert connection.is_connected()
        assert connection.get_channel().is_open
    assert not connection.is_connected()


def test_an_unreachable_broker_raises_without_the_password() -> None:
    settings = RabbitMQSettings(port=1, password="s3cret")
    with pytest.raises(ConnectionError) as caught:
        publish_to_rabbitmq("q", "x", settings=settings)
    assert "s3cret" not in str(caught.value) + repr(settings)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_queue_with_other_arguments_is_one_clear_error(place: Place) -> None:
    channel = pika.BlockingConnection(place.rabbitmq.parameters()).channel()
    channel.queue_declare(place.queue, durable=True)
    with pytest.raises(Exception, match=r"other arguments|RuntimeError|.") as caught:
        publish(place, [Message(place.queue, b"a")])
    cause: BaseException | None = caught.value
    texts = []
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    assert any("RABBITMQ_QUEUE_NAME" in text for text in texts)


def given_back(place: Place, count: int, times: int) -> None:
    """Let a consumer take everything, and die of it."""
    for _ in range(times):
        channel = place.channel()
        channel.basic_qos(prefetch_count=count)
        messages = channel.consume(place.queue, inactivity_timeout=10)
        assert all(method is not None for method, _, _ in islice(messages, count))
        channel.connection.close()


def take(consumer: Consumer, count: int, seconds: float) -> list[Delivery]:
    """At least `count` deliveries, or what came within some seconds."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + seconds
    while len(taken) < count and time.monotonic() < deadline:
        taken += consumer.take(100, 2**20)
        time.sleep(0.02)
    return taken


def test_messages_that_were_delivered_often_are_handed_on_one_by_one(place: Place) -> None:
    """So only the one that kills its process reaches the limit of deliveries."""
    publish(place, [Message(place.queue, b"%d" % number) for number in range(5)])
    given_back(place, 5, CAREFUL_AFTER)
    publish(place, [Message(place.queue, b"%d" % number) for number in range(5, 25)])
    consumer = Consumer(place.rabbitmq, topology(place.queue), place.queue, 100)
    consumer.start()
    for number in range(5):
        [alone] = take(consumer, 1, 20)
        assert alone.body == b"%d" % number
        assert take(consumer, 1, 0.5) == [], "the next one waits for its acknowledgement"
        assert alone.receipt is not None
        consumer.acknowledge(alone.receipt.channel, alone.receipt.tag)
    rest = take(consumer, 20, 20)
    assert [delivery.body for delivery in rest] == [b"%d" % number for number in range(5, 25)]
    consumer.close()


def test_a_queue_has_one_consumer_at_a_time_and_changes_hands_in_order(place: Place) -> None:
    """Two processes that take turns at a document would apply its changes in any order. One that
    ends gives back what it holds before the other one gets what nobody had.
    """
    bodies = [b"%d" % number for number in range(20)]
    publish(place, [Message(place.queue, body) for body in bodies])
    first, second = (
        Consumer(place.rabbitmq, topology(place.queue), place.queue, 5) for _ in range(2)
    )
    first.start()
    deadline = time.monotonic() + 60
    while len(first._buffer) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second.start()
    assert take(second, 1, 2) == []
    first.close()
    seen: list[bytes] = []
    while len(seen) < len(bodies):
        for delivery in take(second, 1, 20):
            assert delivery.receipt is not None
            seen.append(delivery.body)
            second.acknowledge(delivery.receipt.channel, delivery.receipt.tag)
        assert seen == bodies[: len(seen)]
        assert time.monotonic() < deadline
    second.close()


def test_of_two_processes_that_start_at_once_one_handles_the_first_message_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one got those after it at once, which may be newer changes of the same document."""
    monkeypatch.setattr(consuming, "_HANDLED_S", 30.0)
    publish(place, [Message(place.queue, b"%d" % number) for number in range(20)])
    consumers = [Consumer(place.rabbitmq, topology(place.queue), place.queue, 5) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    deadline = time.monotonic() + 20
    while not any(consumer._buffer for consumer in consumers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    one, other = sorted(consumers, key=lambda consumer: -len(consumer._buffer))
    assert (len(one._buffer), len(other._buffer)) == (1, 0)
    [first] = take(one, 1, 1)
    assert first.receipt is not None
    one.acknowledge(first.receipt.channel, first.receipt.tag)
    seen = [*take(one, 1, 2), *take(other, 1, 5)]
    assert seen[0].body == b"1"
    for consumer in consumers:
        consumer.close()


def test_a_model_that_does_not_load_costs_no_message_a_delivery(place: Place) -> None:
    """Twenty such starts would make dead letters of healthy messages."""
    publish(place, [Message(place.queue, b"healthy")])

    def load() -> None:
        time.sleep(1)
        raise RuntimeError("out of memory")

    letters = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    source = RabbitMQSource(place.rabbitmq, place.queue, letters, before_consuming=load)
    with pytest.raises(RuntimeError, match="out of memory"):
        source.build_part("in", place.queue, None)
    method, _, body = next(place.channel().consume(place.queue, inactivity_timeout=10))
    assert body == b"healthy"
    assert not method.redelivered


def test_what_a_lost_channel_brought_is_forgotten(place: Place) -> None:
    """It comes again, and nothing of the old channel could be acknowledged."""
    publish(place, [Message(place.queue, b"%d" % number) for number in range(3)])
    with Proxy(place.rabbitmq.port) as proxy:
        settings = replace(place.rabbitmq, port=proxy.port)
        consumer = Consumer(settings, topology(place.queue), place.queue, 100)
        consumer.start()
        deadline = time.monotonic() + 20
        while len(consumer._buffer) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        proxy.cut(at_least=1)
        while consumer.generation < 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        again = take(consumer, 3, 20)
        assert [delivery.body for delivery in again] == [b"0", b"1", b"2"]
        assert {delivery.receipt.channel for delivery in again if delivery.receipt} == {
            consumer.generation
        }
        assert proxy.cuts
        consumer.close()


def test_a_connection_that_is_given_up_leaves_no_consumer_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold its message, and the queue, until the broker misses heartbeats."""
    publish(place, [Message(place.queue, b"1")])
    gc.disable()  # flows collect rarely, too, which would close its socket
    monkeypatch.setattr(link, "_UNANSWERED_S", 0.3)
    monkeypatch.setattr(link, "_BEAT_S", 0.1)
    consumer = Consumer(place.rabbitmq, topology(place.queue), place.queue, prefetch=10)
    monkeypatch.setattr(consumer, "answered", lambda: None)
    consumer.start()
    deadline = time.monotonic() + 60
    while consumer.generation < 3:
        assert time.monotonic() < deadline, "no connection is given up"
        time.sleep(0.05)
    consumer.close(timeout=10)
    try:
        while consumers(place):
            assert time.monotonic() < deadline, f"{consumers(place)} consumers are left"
            time.sleep(0.2)
    finally:
        gc.enable()


def consumers(place: Place) -> int:
    channel = place.channel()
    count: int = channel.queue_declare(place.queue, passive=True).method.consumer_count
    channel.connection.close()
    return count


def test_connecting_starts_no_thread(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on that is refused while a process ends; what is in flight is sent then."""
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if threading.current_thread().name.startswith(("publisher", "consumer")):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    publish(place, [Message(place.queue, b"x", {"version": 1})])
    assert len(consume(place, 1)) == 1
