"""The publisher against a broker that answers as a generated history says, and its frames."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.channel import Channel
from pika.compat import long
from pika.spec import Basic

from connectors.rabbitmq import RabbitMQPublisher, RabbitMQSettings
from connectors.rabbitmq.frames import joined
from models import Message, Receipt

WINDOW = 4


class Broker:
    """A connection with one channel at a time, without a network.

    Takes messages until it refuses them; what it took is in `queue`, in its order.
    """

    def __init__(self, publisher: RabbitMQPublisher) -> None:
        self.publisher: Any = publisher
        self.queue: list[int] = []
        self.acked: set[int] = set()
        self.taken = 0
        self.timers: list[Any] = []
        self.ioloop = SimpleNamespace(
            add_callback_threadsafe=lambda callback: callback(),
            call_later=lambda _seconds, callback: self.timers.append(callback),
        )
        self.channel: Any = None
        self.unanswered: dict[int, int] = {}
        self.sent = 0

    def connect(self) -> None:
        self.channel = SimpleNamespace(
            channel_number=1,
            is_open=True,
            confirm_delivery=lambda _answer, done: done(None),
            add_on_return_callback=lambda _callback: None,
        )
        self.channel.close = lambda: setattr(self.channel, "is_open", False)
        self.unanswered, self.sent, self.timers = {}, 0, []
        self.publisher._connection = self
        self.publisher.on_channel(self.channel)

    def lose(self) -> None:
        self.publisher._connection = None
        self.publisher.on_lost()
        self.channel = None

    def publish(self, _channel_number: int, messages: Iterable[Any]) -> None:
        for _queue, body, _properties in messages:
            self.sent += 1
            self.taken += 1
            self.unanswered[self.sent] = int(body)

    def ack(self, tag: int, multiple: bool) -> None:
        tags = [t for t in self.unanswered if t <= tag] if multiple else [tag]
        for one in tags:
            number = self.unanswered.pop(one)
            self.queue.append(number)
            self.acked.add(number)
        self.publisher._answer(frame(Basic.Ack(tag, multiple)))

    def nack(self, tag: int, multiple: bool) -> None:
        for one in [t for t in self.unanswered if t <= tag] if multiple else [tag]:
            del self.unanswered[one]
        self.publisher._answer(frame(Basic.Nack(tag, multiple)))

    def settle(self) -> None:
        """Lose what is there and confirm everything from then on."""
        for _ in range(200):
            if self.channel is None or not self.channel.is_open or self.publisher._refused:
                self.lose()
                self.connect()
            if not self.unanswered:
                break
            self.ack(max(self.unanswered), multiple=True)


def frame(method: Any) -> Any:
    return SimpleNamespace(method=method)


def made() -> tuple[Any, Broker]:
    publisher = RabbitMQPublisher(RabbitMQSettings(), [], WINDOW)
    return publisher, Broker(publisher)


def message(number: int, receipt: Receipt | None = None) -> Message:
    return Message("q", b"%d" % number, receipt=receipt)


def last_places(queue: list[int]) -> list[int]:
    return sorted(set(queue), key=lambda number: len(queue) - queue[::-1].index(number))


def test_nothing_is_sent_before_the_broker_has_promised_to_confirm() -> None:
    publisher, broker = made()
    promised: list[Any] = []
    publisher.submit([message(1)])
    channel = SimpleNamespace(
        channel_number=1,
        is_open=True,
        confirm_delivery=lambda _answer, done: promised.append(done),
        add_on_return_callback=lambda _callback: None,
    )
    publisher._connection = broker
    publisher.on_channel(channel)
    assert (broker.sent, publisher._is_ready) == (0, False)
    promised[0](None)
    assert (broker.sent, publisher._is_ready) == (1, True)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "ack", "ack", "ack", "nack", "lose", "connect", "timer"]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=60,
)


@given(STEPS)
def test_what_counts_as_confirmed_was_taken_by_the_broker(
    steps: list[tuple[str, int, bool]],
) -> None:
    """Whatever comes in between: refusals, lost channels, answers out of their order."""
    publisher, broker = made()
    submitted = 0
    for step, number, multiple in steps:
        open_ = broker.channel is not None and broker.channel.is_open
        if step == "submit":
            publisher.submit([message(submitted + i) for i in range(number)])
            submitted += number
        elif step == "connect" and broker.channel is None:
            broker.connect()
        elif step == "lose" and broker.channel is not None:
            broker.lose()
        elif step == "timer" and open_ and broker.timers:
            broker.timers.pop()()
        elif step in ("ack", "nack") and open_ and broker.unanswered:
            tags = list(broker.unanswered)
            getattr(broker, step)(tags[number % len(tags)], multiple)
        assert set(range(publisher.confirmed)) <= broker.acked
        assert publisher.submitted == submitted
        assert len(broker.unanswered) <= WINDOW
    broker.settle()
    assert publisher.confirmed == submitted
    assert broker.acked == set(range(submitted))
    assert publisher._bytes == 0
    assert publisher.unconfirmed() == set()


@given(STEPS)
def test_what_is_sent_again_keeps_its_order(steps: list[tuple[str, int, bool]]) -> None:
    """A queue that is full for a while: whoever reads it sees the newest of each last."""
    publisher, broker = made()
    broker.connect()
    submitted = 0
    for step, number, _ in steps:
        if step == "submit":
            publisher.submit([message(submitted + i) for i in range(number)])
            submitted += number
        elif not broker.channel.is_open:
            broker.lose()
            broker.connect()
        elif step == "ack" and broker.unanswered:
            broker.ack(min(broker.unanswered), multiple=False)
        elif step == "nack" and broker.unanswered:
            broker.nack(min(broker.unanswered), multiple=False)
    broker.settle()
    assert last_places(broker.queue) == list(range(submitted))


def test_a_refusal_sends_one_message_at_a_time_until_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(number) for number in range(50)])
    assert broker.taken == WINDOW
    for _ in range(10):
        broker.nack(min(broker.unanswered), multiple=True)
        assert not broker.channel.is_open
        broker.lose()
        broker.connect()
        assert len(broker.unanswered) == 1
    assert broker.taken == WINDOW + 10
    for expected in (2, 4, 4):
        broker.ack(max(broker.unanswered), multiple=True)
        assert len(broker.unanswered) == expected
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" after")[0] for line in lines] == [
        "RabbitMQ is away, waiting for it: it refuses messages for the queue q: is it full?",
        "RabbitMQ is back",
    ]


def test_a_refused_message_is_not_confirmed_by_those_that_follow_it() -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(number) for number in range(4)])
    broker.nack(2, multiple=False)
    broker.ack(4, multiple=True)
    assert publisher.confirmed == 1
    broker.settle()
    assert broker.queue == [0, 2, 3, 1, 2, 3]


def test_messages_that_are_refused_together_are_not_confirmed_by_those_that_follow() -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(number) for number in range(4)])
    broker.nack(3, multiple=True)
    assert not broker.channel.is_open
    broker.channel.is_open = True  # its closing takes a while
    publisher._answer(frame(Basic.Ack(4, True)))
    assert publisher.confirmed == 0


def test_an_answer_of_a_lost_channel_confirms_nothing_on_the_next_one() -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(number) for number in range(3)])
    broker.ack(2, multiple=False)
    broker.lose()
    broker.connect()
    broker.ack(1, multiple=False)
    assert publisher.confirmed == 1


def test_what_was_confirmed_before_a_refusal_is_not_sent_again() -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(number) for number in range(4)])
    broker.nack(3, multiple=False)
    assert broker.channel.is_open
    broker.ack(2, multiple=True)
    assert not broker.channel.is_open
    broker.settle()
    assert broker.queue == [0, 1, 2, 3]


def test_a_returned_message_is_not_confirmed_by_the_answer_that_follows() -> None:
    publisher, broker = made()
    broker.connect()
    publisher.submit([message(0)])
    publisher._returned(broker.channel, SimpleNamespace(routing_key="q"), None, b"")
    publisher._answer(frame(Basic.Ack(1, False)))
    assert publisher.confirmed == 0


def test_nobody_waits_for_a_publisher_that_cannot_send() -> None:
    publisher, _broker = made()
    publisher.submit([message(number) for number in range(WINDOW + 2)])
    assert not publisher.has_room
    assert not publisher.is_heavy
    publisher.submit([Message("q", bytes(33 * 2**20), receipt=Receipt("q", 1, 7))])
    assert publisher.is_heavy
    assert publisher.confirmed == 0
    assert publisher.unconfirmed() == {None, Receipt("q", 1, 7)}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(2**31, 2**63 - 1).map(long)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
PROPERTIES = st.builds(
    pika.BasicProperties,
    content_type=st.just("application/json"),
    delivery_mode=st.just(2),
    headers=st.dictionaries(st.text(max_size=30), VALUES, max_size=5),
    message_id=st.none() | st.text(max_size=40),
    timestamp=st.integers(0, 2**40),
    type=st.none() | st.text(max_size=20),
)
PUBLICATIONS = st.lists(
    st.tuples(st.text(max_size=60), st.binary(max_size=300), PROPERTIES), max_size=6
)


class Recorded(pika.SelectConnection):  # type: ignore[misc]  # pika has no types
    """Pika's own way to publish, into a list."""

    def __init__(self, largest: int) -> None:
        self._body_max_length = largest
        self.bytes_sent = self.frames_sent = 0
        self.data = b""

    def _adapter_emit_data(self, data: bytes) -> None:
        self.data += data


@given(PUBLICATIONS, st.integers(1, 120), st.integers(1, 2**16 - 1))
def test_joined_frames_are_those_of_pika(
    publications: list[Any], largest: int, number: int
) -> None:
    """Bodies larger than a frame, names of queues in any script, headers of all kinds."""
    pikas = Recorded(largest)
    channel = Channel.__new__(Channel)
    channel.connection, channel.channel_number, channel._state = pikas, number, Channel.OPEN
    for queue, body, properties in publications:
        channel.basic_publish("", queue, body, properties, mandatory=True)
    assert b"".join(joined(number, publications, largest)) == pikas.data


def test_frames_leave_in_pieces() -> None:
    properties = pika.BasicProperties()
    some = [("q", bytes(50_000), properties)] * 10
    pieces = list(joined(1, some, 131_000))
    assert 3 <= len(pieces) <= 5
