"""Publishing with a window of confirms, and the sink that dataflows end in."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import pika
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from pika.channel import Channel
from pika.compat import long

from connectors.rabbitmq.link import Link, declare_all
from connectors.rabbitmq.settings import RabbitMQSettings
from models import Message

_MAX_WAITING = 32 * 2**20
_MAX_INT32 = 2**31 - 1


class Publisher(Link):
    """Publishes in order with a window of unconfirmed messages.

    Across a lost connection every unconfirmed message is sent again: at least once.

    :param declarations: queues to declare on each new channel
    :param window: unconfirmed messages at a time
    """

    def __init__(
        self,
        settings: RabbitMQSettings,
        declarations: list[dict[str, Any]],
        window: int = 1000,
        name: str = "publisher",
    ) -> None:
        super().__init__(settings.parameters(), name)
        self._declarations = declarations
        self._window = window
        self._lock = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._unconfirmed: dict[int, Message] = {}
        self._bytes = 0
        self._tag = 0
        self._channel: Channel | None = None

    def submit(self, messages: Sequence[Message]) -> None:
        """Queue messages; waits while more than a window, or 32 MiB, are already queued."""
        with self._lock:
            while self._is_full():
                self._wait()
            self._waiting.extend(messages)
            self._bytes += sum(len(message.body) for message in messages)
        self.soon(self._pump)

    def flush(self) -> None:
        """Wait until every submitted message is confirmed by the broker."""
        self.check()
        with self._lock:
            while self._waiting or self._unconfirmed:
                self._wait()

    def _is_full(self) -> bool:
        # the bytes are only added up where there can be many: one large batch is one message
        # one window ahead is enough: what waits when an epoch ends is sent while nothing is made
        return len(self._waiting) > self._window or self._bytes > _MAX_WAITING

    def _wait(self) -> None:
        self.check()
        self._lock.wait(0.5)

    def on_channel(self, channel: Channel) -> None:
        """Declare, then send what waits."""
        channel.add_on_return_callback(self._returned)
        declare_all(channel, self._declarations, lambda: self._ready(channel))

    def _ready(self, channel: Channel) -> None:
        self._tag = 0
        channel.confirm_delivery(self._confirmed)
        self._channel = channel
        self.ready()
        self._pump()

    def on_lost(self) -> None:
        """Put what was not confirmed back in front, in its order."""
        with self._lock:
            self._channel = None
            self._waiting.extendleft(
                self._unconfirmed[tag] for tag in sorted(self._unconfirmed, reverse=True)
            )
            self._unconfirmed.clear()
            self._lock.notify_all()

    def _pump(self) -> None:
        channel, connection = self._channel, self._connection
        if channel is None or connection is None or not channel.is_open:
            return
        with self._lock:
            room = min(len(self._waiting), self._window - len(self._unconfirmed))
            some = [self._waiting.popleft() for _ in range(room)]
            self._unconfirmed.update(enumerate(some, self._tag + 1))
            self._tag += len(some)
        connection.publish(
            channel.channel_number,
            ((message.queue, message.body, _properties(message)) for message in some),
        )

    def _confirmed(self, frame: Any) -> None:
        if self._channel is None:
            return
        method = frame.method
        with self._lock:
            if method.multiple:
                tags = list(takewhile(method.delivery_tag.__ge__, self._unconfirmed))
            else:
                tags = [method.delivery_tag]
            messages = [self._unconfirmed.pop(tag) for tag in tags if tag in self._unconfirmed]
            if isinstance(method, pika.spec.Basic.Nack):
                self._waiting.extendleft(reversed(messages))
            else:
                self._bytes -= sum(len(message.body) for message in messages)
            if not self._unconfirmed or not self._is_full():
                self._lock.notify_all()
        self._pump()

    def _returned(self, channel: Channel, method: Any, _properties: Any, _body: bytes) -> None:
        # A queue was deleted under us, and a confirm follows that must not count: a new channel
        # declares the queue again and everything that is unconfirmed is sent again.
        self._patience.away(RuntimeError(f"queue {method.routing_key} is gone, declaring it again"))
        self._channel = None
        channel.close()


def _properties(message: Message) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        # pika tries 32 bits for an int, and gives up by an exception; it has its own type for 64
        headers={
            key: long(value) if type(value) is int and value > _MAX_INT32 else value
            for key, value in message.headers.items()
        },
        message_id=message.message_id or None,
        timestamp=int(time.time()),
        type=message.type or None,
    )


class RabbitMQSink(FixedPartitionedSink[Message, None]):
    """Publishes messages to the queues that they name, persistent, mandatory and confirmed.

    Parallelism: one partition, so all workers' messages go through one connection, in the order
    of their arrival. Delivery: at least once; an epoch closes only when the broker has confirmed
    everything in it, with or without a recovery directory. After a resume: everything of the
    epochs that were not closed is published again.

    :param settings: how to reach the broker
    :param declarations: queues to declare on each connection, see `topology`
    :param window: unconfirmed messages at a time
    """

    def __init__(
        self, settings: RabbitMQSettings, declarations: list[dict[str, Any]], window: int = 1000
    ) -> None:
        self._settings = settings
        self._declarations = declarations
        self._window = window
        self._built: list[_SinkPartition] = []

    def list_parts(self) -> list[str]:
        """One connection."""
        return ["broker"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Message, None]:
        """Start connecting."""
        publisher = Publisher(self._settings, self._declarations, self._window, step_id)
        publisher.start()
        partition = _SinkPartition(publisher)
        self._built.append(partition)
        return partition

    def check(self) -> None:
        """To be called when the dataflow has run to its end, before anything is acknowledged.

        :raises Exception: what kept the last messages from being confirmed
        """
        for partition in self._built:
            if partition.failure is not None:
                raise partition.failure


class _SinkPartition(StatefulSinkPartition[Message, None]):
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.failure: Exception | None = None

    def write_batch(self, values: list[Message]) -> None:
        self._publisher.submit(values)

    def snapshot(self) -> None:
        # Called when an epoch ends, also without a recovery directory: the epoch counts as
        # written only when this returns.
        self._publisher.flush()

    def close(self) -> None:
        try:
            self._publisher.flush()
        except Exception as error:  # noqa: BLE001 (raised from close() it would abort the process)
            self.failure = error
        self._publisher.close()
