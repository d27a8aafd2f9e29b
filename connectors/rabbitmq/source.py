"""Consuming with acknowledgements for closed epochs only."""

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from pika.channel import Channel

from connectors.pace import Pace
from connectors.rabbitmq.link import Link, declare_all
from connectors.rabbitmq.settings import RabbitMQSettings
from connectors.rabbitmq.topology import queue_names, topology
from models import Delivery

CAREFUL_AFTER = 15
"""Deliveries of one message after which it is handled alone: one that kills the process each time
then counts for itself only, and reaches the delivery limit before its neighbours do."""

_HOLD_MS = 7 * 86_400_000
"""How long a delivery may stay unacknowledged, where the broker lets a consumer say so (3.12 and
later): a store can be away for a weekend, and each timeout would count as a delivery."""

_IN_MEMORY = 32 * 2**20

Mark = tuple[int, int]
"""Generation of the channel, and delivery tag."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    tag: int
    delivery: Delivery
    size: int
    offset: int | None = None
    """Where the body is in the spool; None while it is in memory."""


class _Spool:
    """Bodies that wait in a file without a name, because a prefetch counts messages, not bytes."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its last body)
        self._held = 0
        self._end = 0

    def put(self, body: bytes) -> int:
        """Write a body; its offset."""
        offset = self._end
        self._file.seek(offset)
        self._file.write(body)
        self._end += len(body)
        self._held += 1
        return offset

    def get(self, offset: int, size: int) -> bytes:
        """Read a body once."""
        self._file.seek(offset)
        body = self._file.read(size)
        self._held -= 1
        if not self._held:
            self.clear()
        return body

    def clear(self) -> None:
        """Forget all bodies."""
        self._held = self._end = 0
        self._file.truncate(0)


class _Consumer(Link):
    """Consumes one queue into a buffer that holds at most `prefetch` messages."""

    def __init__(
        self,
        settings: RabbitMQSettings,
        declarations: list[dict[str, Any]],
        queue: str,
        prefetch: int,
    ) -> None:
        super().__init__(settings.parameters(), f"consumer-{queue}")
        self._declarations = declarations
        self._queue = queue
        self._prefetch = prefetch
        self._lock = threading.Lock()
        self._buffer: deque[_Waiting] = deque()
        self._in_memory = 0
        self._spool = _Spool()
        self._generation = 0
        self._channel: Channel | None = None
        self._careful = False
        self._calm_behind: int | None = None

    def take(self, max_count: int, max_bytes: int) -> tuple[list[Delivery], Mark | None]:
        """Messages from the buffer, at least one if there is any.

        :returns: the messages, and what `acknowledge` needs to acknowledge them and all before
        """
        taken: list[Delivery] = []
        size = 0
        mark = None
        with self._lock:
            while self._buffer and len(taken) < max_count:
                waiting = self._buffer[0]
                size += waiting.size
                if taken and size > max_bytes:
                    break
                self._buffer.popleft()
                taken.append(self._whole(waiting))
                mark = (self._generation, waiting.tag)
        return taken, mark

    def acknowledge(self, mark: Mark) -> None:
        """Acknowledge everything up to a mark; one of a lost channel is ignored, since the broker
        delivers its messages again.
        """
        self.soon(lambda: self._ack(*mark))

    def on_channel(self, channel: Channel) -> None:
        """Declare, then consume; one by one where the last channel met what was delivered often.

        Never with two consumers on a channel: a queue takes back what each of them held, one
        after the other, and so in another order.
        """
        self._channel = channel
        self._calm_behind = None
        prefetch = 1 if self._careful else self._prefetch
        channel.add_on_cancel_callback(lambda _frame: channel.close())
        declare_all(channel, self._declarations, lambda: self._consume(channel, prefetch))

    def on_lost(self) -> None:
        """Forget what came by the lost channel: the broker delivers it again."""
        with self._lock:
            self._channel = None
            self._buffer.clear()
            self._spool.clear()
            self._in_memory = 0
            self._generation += 1

    def _consume(self, channel: Channel, prefetch: int) -> None:
        channel.basic_qos(
            prefetch_count=prefetch,
            callback=lambda _frame: channel.basic_consume(
                self._queue,
                self._received,
                arguments={"x-consumer-timeout": _HOLD_MS},
                callback=lambda _ok: self.ready(),
            ),
        )

    def _received(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        if channel.is_closing or channel.is_closed:
            return
        headers = properties.headers or {}
        often = _deliveries(headers) >= CAREFUL_AFTER
        if often and not self._careful:
            self._careful = True
            channel.close()
            return
        delivery = Delivery(self._queue, body, headers, method.redelivered, int(time.time() * 1000))
        with self._lock:
            self._buffer.append(self._waiting(method.delivery_tag, delivery))
        if self._careful and not often and self._calm_behind is None:
            self._calm_behind = method.delivery_tag

    def _waiting(self, tag: int, delivery: Delivery) -> _Waiting:
        size = len(delivery.body)
        if self._in_memory and self._in_memory + size > _IN_MEMORY:
            offset = self._spool.put(delivery.body)
            return _Waiting(tag, replace(delivery, body=b""), size, offset)
        self._in_memory += size
        return _Waiting(tag, delivery, size)

    def _whole(self, waiting: _Waiting) -> Delivery:
        if waiting.offset is None:
            self._in_memory -= waiting.size
            return waiting.delivery
        return replace(waiting.delivery, body=self._spool.get(waiting.offset, waiting.size))

    def _ack(self, generation: int, tag: int) -> None:
        channel = self._channel
        if channel is not None and channel.is_open and generation == self._generation:
            channel.basic_ack(tag, multiple=True)
            if self._calm_behind is not None and tag >= self._calm_behind:
                self._careful = False
                channel.close()


def _deliveries(headers: dict[str, Any]) -> int:
    count = headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


class RabbitMQSource(FixedPartitionedSource[Delivery, None]):
    """Consumes the queue of every partition.

    Parallelism: one partition for each queue, each with its own connection and thread; a queue
    has one active consumer at a time, so the changes of a document stay in order. Delivery: at
    least once; a message is acknowledged when its epoch is closed, that is, when everything made
    of it has passed every output. After a resume: the broker delivers again what was not
    acknowledged, marked as redelivered; a recovery directory adds nothing and costs nothing.

    :param settings: how to reach the broker
    :param queue: `RABBITMQ_QUEUE_NAME`
    :param partitions: number of queues
    :param prefetch: unacknowledged messages for each partition; throughput is at most this number
        in each epoch
    :param before_consuming: called once per partition before the first message, to load a model
    :param stopping: when set, the source ends; what is in flight is written before the flow ends
    :param batch_size: messages handed on at a time
    :param batch_bytes: bytes handed on at a time, one larger message alone
    """

    def __init__(
        self,
        settings: RabbitMQSettings,
        queue: str,
        partitions: int = 1,
        prefetch: int = 1000,
        before_consuming: Callable[[], None] = lambda: None,
        stopping: threading.Event | None = None,
        batch_size: int = 256,
        batch_bytes: int = 2**18,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._queues = queue_names(queue, partitions)
        self._prefetch = prefetch
        self._before_consuming = before_consuming
        self._stopping = stopping or threading.Event()
        self._batch = (batch_size, batch_bytes)
        self._built: list[_SourcePartition] = []

    def list_parts(self) -> list[str]:
        """The queues."""
        return list(self._queues)

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[Delivery, None]:
        """Start consuming one queue."""
        self._before_consuming()
        consumer = _Consumer(
            self._settings, topology(self._queue, len(self._queues)), for_part, self._prefetch
        )
        consumer.start()
        partition = _SourcePartition(consumer, self._stopping, *self._batch)
        self._built.append(partition)
        return partition

    def finish(self) -> None:
        """Acknowledge what the last epoch held, and disconnect.

        To be called when the dataflow has run to its end without an error, and only then: at that
        moment everything that was handed on has passed every output.
        """
        for partition in self._built:
            partition.finish()


class _SourcePartition(StatefulSourcePartition[Delivery, None]):
    def __init__(
        self, consumer: _Consumer, stopping: threading.Event, max_count: int, max_bytes: int
    ) -> None:
        self._consumer = consumer
        self._stopping = stopping
        self._limits = (max_count, max_bytes)
        self._handed_on: tuple[int, int] | None = None
        self._closing: tuple[int, int] | None = None
        self._pace = Pace()

    def next_batch(self) -> list[Delivery]:
        # The first call behind snapshot() of an epoch runs when everything handed on up to that
        # snapshot has passed every output: the one safe moment to acknowledge.
        self._acknowledge_closed()
        self._consumer.check()
        if self._stopping.is_set():
            raise StopIteration
        deliveries, mark = self._consumer.take(*self._limits)
        self._handed_on = mark or self._handed_on
        self._pace.note(bool(deliveries))
        return deliveries

    def next_awake(self) -> datetime | None:
        return self._pace.next_awake()

    def snapshot(self) -> None:
        self._closing, self._handed_on = self._handed_on or self._closing, None

    def finish(self) -> None:
        self._closing = self._handed_on or self._closing
        self._acknowledge_closed()
        self._consumer.close()

    def _acknowledge_closed(self) -> None:
        # A (in docs/design.md: writes of a batch)
        if self._closing is not None:
            self._consumer.acknowledge(self._closing)
            self._closing = None
