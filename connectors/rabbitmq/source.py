"""Consuming; a message is acknowledged only when all that was made of it is written."""

import threading
from collections.abc import Callable
from datetime import datetime

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.pace import Pace
from connectors.rabbitmq.consumer import Consumer
from connectors.rabbitmq.publisher import RabbitMQPublisher
from connectors.rabbitmq.settings import RabbitMQSettings
from connectors.rabbitmq.topology import queue_names, topology
from models import Delivery, Receipt


class RabbitMQSource(FixedPartitionedSource[Delivery, None]):
    """Consumes the queue of every partition.

    Parallelism: one partition for each queue, each with its own connection and thread; a queue
    has one active consumer at a time, so the changes of a document stay in order. Delivery: at
    least once; a message is acknowledged when its epoch is closed, that is, when everything made
    of it has passed every output, and when its dead letter, if there is one, is confirmed. After
    a resume: the broker delivers again what was not acknowledged, marked as redelivered; a
    recovery directory adds nothing and costs nothing.

    :param settings: how to reach the broker
    :param queue: `RABBITMQ_QUEUE_NAME`
    :param dead_letters: publishes what is made of the messages, on the worker that made it
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
        dead_letters: RabbitMQPublisher,
        partitions: int = 1,
        prefetch: int = 1000,
        before_consuming: Callable[[], None] = lambda: None,
        stopping: threading.Event | None = None,
        batch_size: int = 256,
        batch_bytes: int = 2**18,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._dead_letters = dead_letters
        self._queues = queue_names(queue, partitions)
        self._prefetch = prefetch
        self._before_consuming = before_consuming
        self._stopping = stopping or threading.Event()
        self._batch = (batch_size, batch_bytes)
        self._built: list[_Partition] = []

    def list_parts(self) -> list[str]:
        """The queues."""
        return list(self._queues)

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[Delivery, None]:
        """Start consuming one queue."""
        self._before_consuming()
        self._dead_letters.start()
        consumer = Consumer(
            self._settings, topology(self._queue, len(self._queues)), for_part, self._prefetch
        )
        consumer.start()
        partition = _Partition(for_part, consumer, self._dead_letters, self._stopping, self._batch)
        self._built.append(partition)
        return partition

    def finish(self) -> bool:
        """Acknowledge as much of the last epoch as may be; whether that was all of it.

        To be called when the dataflow has run to its end without an error, and only then: at that
        moment everything that was handed on has passed every output.

        :raises ConnectorFailedError: what is left cannot be confirmed any more
        """
        finished = [partition.finish() for partition in self._built]
        return all(finished)

    def close(self) -> None:
        """Disconnect. Never raises."""
        for partition in self._built:
            partition.disconnect()


class _Partition(StatefulSourcePartition[Delivery, None]):
    def __init__(
        self,
        queue: str,
        consumer: Consumer,
        dead_letters: RabbitMQPublisher,
        stopping: threading.Event,
        batch: tuple[int, int],
    ) -> None:
        self._queue = queue
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._stopping = stopping
        self._batch = batch
        self._handed_on: list[Receipt] = []
        self._closing: list[Receipt] = []
        self._closed: list[Receipt] = []
        self._pace = Pace()

    def next_batch(self) -> list[Delivery]:
        # The first call after snapshot() of an epoch runs when everything handed on up to that
        # snapshot has passed every output: from now on its dead letters are known.
        self._close_epoch()
        self._acknowledge_confirmed()
        self._consumer.check()
        self._dead_letters.check()
        if self._stopping.is_set():
            raise StopIteration
        deliveries = [] if self._dead_letters.is_heavy else self._consumer.take(*self._batch)
        self._handed_on += [delivery.receipt for delivery in deliveries if delivery.receipt]
        self._pace.note(bool(deliveries))
        return deliveries

    def next_awake(self) -> datetime | None:
        return self._pace.next_awake()

    def snapshot(self) -> None:
        self._closing += self._handed_on
        self._handed_on = []

    def finish(self) -> bool:
        self.snapshot()
        self._close_epoch()
        self._acknowledge_confirmed()
        if self._closed:
            self._dead_letters.check()
        return not self._closed

    def disconnect(self) -> None:
        self._consumer.close()

    def _close_epoch(self) -> None:
        self._closed += self._closing
        self._closing = []

    def _acknowledge_confirmed(self) -> None:
        """Acknowledge what is closed and has no dead letter on its way.

        An alarm of the broker stops publishers and lets consumers go on, so the backlog gets
        smaller even while a dead letter waits.
        """
        if not self._closed:
            return
        generation = self._consumer.generation
        closed = [receipt for receipt in self._closed if receipt.channel == generation]
        unconfirmed = self._dead_letters.unconfirmed()
        if None in unconfirmed:  # of whichever delivery
            self._closed = closed
            return
        held = [receipt for receipt in closed if receipt in unconfirmed]
        done = [receipt.tag for receipt in closed if receipt not in unconfirmed]
        count = sum(tag < held[0].tag for tag in done) if held else len(done)
        if done:  # A (in docs/design.md: writes of a batch)
            up_to = done[count - 1] if count else None
            self._consumer.acknowledge(generation, up_to, done[count:])
        self._closed = held
