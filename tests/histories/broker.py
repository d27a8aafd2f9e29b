"""A model of the broker, and the product's own publisher in front of it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from pika.spec import Basic

from connectors.rabbitmq import RabbitMQPublisher, RabbitMQSettings
from models import Delivery, Message, Receipt

WINDOW = 4


class Out(NamedTuple):
    """Given out and not acknowledged."""

    message: Message
    redelivered: bool
    receipt: Receipt


@dataclass
class Queue:
    """A quorum queue with one active consumer."""

    name: str
    limit: int | None = None
    """How many messages may wait; None without a limit."""
    out: list[Out] = field(default_factory=list)
    returned: list[Message] = field(default_factory=list)
    """Given out once, and to be given out again before anything else."""
    ready: list[Message] = field(default_factory=list)
    _given: int = 0

    def take(self, count: int) -> list[Delivery]:
        """Give out the next messages."""
        taken = [self._give(message, True) for message in self.returned[:count]]
        del self.returned[: len(taken)]
        count -= len(taken)
        taken += [self._give(message, False) for message in self.ready[:count]]
        del self.ready[:count]
        self.out += taken
        return [
            Delivery(self.name, m.body, m.headers, redelivered, receipt)
            for m, redelivered, receipt in taken
        ]

    def _give(self, message: Message, redelivered: bool) -> Out:
        self._given += 1
        return Out(message, redelivered, Receipt(self.name, 0, self._given))

    def acknowledge(self, count: int, but: Iterable[Receipt | None] = ()) -> None:
        """The first deliveries that are out are done, except some."""
        kept = set(but)
        self.out = [o for n, o in enumerate(self.out) if n >= count or o.receipt in kept]

    def lose_consumer(self, prefetched: int) -> None:
        """The channel is gone: all that was given out comes again, in its order."""
        self.take(prefetched)
        self.returned = [out.message for out in self.out] + self.returned
        self.out.clear()

    @property
    def waiting(self) -> int:
        """How many messages are to be given out."""
        return len(self.returned) + len(self.ready)


class Broker:
    """Queues that may be full; under an alarm, nobody publishes."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.alarm = False
        self.published: list[Message] = []
        """Changes, without dead letters."""

    def declare(self, names: Iterable[str]) -> None:
        """Add queues."""
        self.queues |= {name: Queue(name) for name in names}

    def offer(self, message: Message) -> bool:
        """Take a message, unless its queue is full."""
        queue = self.queues[message.queue]
        if queue.limit is not None and queue.waiting >= queue.limit:
            return False
        self.put(message)
        return True

    def put(self, message: Message) -> None:
        """Put a message into its queue, whatever the limit."""
        if not message.queue.endswith(".dlq"):
            self.published.append(message)
        self.queues[message.queue].ready.append(message)

    def recover(self) -> None:
        """End the alarm and all limits."""
        self.alarm = False
        for queue in self.queues.values():
            queue.limit = None


class Link:
    """The product's publisher, and its connection to the broker without a network.

    A connection that is lost is there again with the next turn.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.publisher = RabbitMQPublisher(RabbitMQSettings(), [], WINDOW)
        self._driven: Any = self.publisher
        self._channel: Any = None
        self._tag = 0
        self._unanswered: deque[tuple[int, Message]] = deque()
        self.ioloop = SimpleNamespace(
            add_callback_threadsafe=lambda callback: callback(),
            call_later=lambda _seconds, _callback: None,
        )

    @property
    def done(self) -> bool:
        """Whether everything that was submitted is confirmed."""
        return self.publisher.confirmed == self.publisher.submitted

    def submit(self, messages: list[Message]) -> None:
        """Publish, as far as the broker takes it now."""
        self.publisher.submit(messages)
        self.turn()

    def turn(self) -> None:
        """Connect, if need be, and have the broker answer until it refuses."""
        if self._channel is None or not self._channel.is_open:
            self.lose(0)
            self._connect()
        while self._unanswered and not self._broker.alarm and self._channel.is_open:
            tag, message = self._unanswered.popleft()
            answer = Basic.Ack if self._broker.offer(message) else Basic.Nack
            self._driven._answer(SimpleNamespace(method=answer(tag, False)))

    def lose(self, taken: int) -> None:
        """Lose the connection: so many messages more were taken, and nobody is told."""
        for _, message in list(self._unanswered)[:taken]:
            if self._broker.alarm or not self._broker.offer(message):
                break
        self._unanswered.clear()
        self._channel = self._driven._connection = None
        self._driven.on_lost()

    def publish(self, _channel_number: int, messages: Iterable[Any]) -> None:
        """Called by the publisher, as `JoiningConnection.publish`."""
        for queue, body, properties in messages:
            self._tag += 1
            self._unanswered.append((self._tag, Message(queue, body, properties.headers)))

    def _connect(self) -> None:
        channel = SimpleNamespace(
            channel_number=1,
            is_open=True,
            confirm_delivery=lambda _answer, done: done(None),
            add_on_return_callback=lambda _callback: None,
        )
        channel.close = lambda: setattr(channel, "is_open", False)
        self._channel, self._tag = channel, 0
        self._driven._connection = self
        self.publisher.on_channel(channel)
