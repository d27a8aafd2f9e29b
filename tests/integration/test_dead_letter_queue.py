"""The queue of dead letters keeps what is in it, whatever the broker's version and its own age."""

import logging
import time

import pika
import pytest

from connectors.rabbitmq import (
    RabbitMQConnection,
    RabbitMQPublisher,
    RabbitMQSource,
    dead_letter_queue,
    topology,
)
from connectors.rabbitmq.topology import NO_DELIVERY_LIMIT
from flows.replay import replay
from flows.settings import Settings
from models import Message
from tests.chaos.harness import queue_depth
from tests.conftest import Place

LOOKS = 60
"""Three times the delivery limit that RabbitMQ 4 gives to a queue without one."""


def look_often(place: Place, queue: str) -> None:
    """As a person does in the management pages with "Nack message requeue true"."""
    with RabbitMQConnection(settings=place.rabbitmq) as connection:
        channel = connection.get_channel()
        for _ in range(LOOKS):
            deadline = time.monotonic() + 10
            while (method := channel.basic_get(queue)[0]) is None:  # on its way back to the queue
                assert time.monotonic() < deadline, "the letter is gone"
                time.sleep(0.01)
            channel.basic_reject(method.delivery_tag, requeue=True)


def bury(place: Place) -> str:
    """A publisher as the flows have it makes the queues, and sends one letter."""
    dlq = dead_letter_queue(place.queue)
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    publisher.start()
    try:
        publisher.submit([Message(dlq, b"a letter", {"version": int(time.time()) << 32})])
        publisher.flush()
    finally:
        publisher.close()
    return dlq


def an_older_one(place: Place) -> None:
    """The dead-letter queue as version 0.1.0 has made it."""
    with RabbitMQConnection(settings=place.rabbitmq) as connection:
        connection.get_channel().queue_declare(
            dead_letter_queue(place.queue), durable=True, arguments={"x-queue-type": "quorum"}
        )


def test_a_letter_is_not_lost_by_being_looked_at(place: Place) -> None:
    dlq = bury(place)
    look_often(place, dlq)
    deadline = time.monotonic() + 10
    while not queue_depth(place, dlq):
        assert time.monotonic() < deadline, "the letter is gone"
        time.sleep(0.05)


def test_the_limit_is_one_that_every_version_takes() -> None:
    (letters, *_) = topology("q")
    assert letters["arguments"]["x-delivery-limit"] == NO_DELIVERY_LIMIT > 10**9


def test_an_older_queue_of_letters_is_used_as_it_is(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    an_older_one(place)
    with caplog.at_level(logging.INFO, "connectors"):
        dlq = bury(place)
    assert queue_depth(place, dlq) == 1
    said = [record.getMessage() for record in caplog.records if "runbook" in record.getMessage()]
    assert len(said) == 1
    assert dlq in said[0]
    assert not any("away" in record.getMessage() for record in caplog.records)


def test_documents_are_consumed_next_to_an_older_queue_of_letters(place: Place) -> None:
    an_older_one(place)
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    source = RabbitMQSource(place.rabbitmq, place.queue, publisher)
    partition = source.build_part("input", place.queue, None)
    try:
        publisher.submit([Message(place.queue, b"{}", {})])
        publisher.flush()
        taken: list[bytes] = []
        while not taken:
            taken += [delivery.body for delivery in partition.next_batch()]
        assert taken == [b"{}"]
    finally:
        source.close()
        publisher.close()


def test_letters_are_replayed_from_an_older_queue(place: Place) -> None:
    an_older_one(place)
    bury(place)
    settings = Settings.from_env(place.environment)
    with RabbitMQConnection(settings=place.rabbitmq) as connection:
        connection.declare(topology(place.queue))
        assert replay(connection.get_channel(), settings, None) == (1, 0)
    assert queue_depth(place, place.queue) == 1


def test_a_queue_of_letters_that_is_deleted_meanwhile_is_made_again(place: Place) -> None:
    an_older_one(place)
    publisher = RabbitMQPublisher(place.rabbitmq, topology(place.queue))
    publisher.start()
    dlq = dead_letter_queue(place.queue)
    try:
        publisher.submit([Message(place.queue, b"one", {})])
        publisher.flush()
        with RabbitMQConnection(settings=place.rabbitmq) as connection:
            connection.get_channel().queue_delete(dlq)
        publisher.submit([Message(dlq, b"a letter", {})])  # returned, which ends the channel
        publisher.flush()
    finally:
        publisher.close()
    assert queue_depth(place, dlq) == 1


def test_a_queue_of_documents_is_still_refused(place: Place) -> None:
    """There the arguments are promises: one active consumer, and where poison ends."""
    with pika.BlockingConnection(place.rabbitmq.parameters()) as connection:
        connection.channel().queue_declare(place.queue, durable=True)
    with pytest.raises(Exception, match="RABBITMQ_QUEUE_NAME"):
        bury(place)
