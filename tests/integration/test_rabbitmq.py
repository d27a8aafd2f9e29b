"""Sink, source, connection and topology against a real broker."""

import threading
import time
from datetime import timedelta

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
    publish_to_rabbitmq,
    topology,
)
from flows.operators.publish import publish as publish_step
from models import Delivery, Message
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
    """Run a dataflow until `count` messages have come."""
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
    run_main(flow, epoch_interval=timedelta(milliseconds=50))
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
    again = consume(place, 1)
    assert again[-1].body == b"b" or again[0].redelivered


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
