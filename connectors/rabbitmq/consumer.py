"""Consuming one queue into a bounded buffer."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pika.channel import Channel

from connectors.rabbitmq.link import Link
from connectors.rabbitmq.settings import RabbitMQSettings
from connectors.rabbitmq.spool import Spool
from models import Delivery, Receipt

CAREFUL_AFTER = 15
"""Deliveries of one message after which it is handled alone: one that kills the process each time
then counts for itself only, and reaches the delivery limit before its neighbours do."""

_HOLD_MS = 7 * 86_400_000
"""How long a delivery may stay unacknowledged, where the broker lets a consumer say so (3.12 and
later): a store can be away for a weekend, and each timeout would count as a delivery."""

_HANDLED_S = 1.0
"""How long the first message is handled alone. Another process that waits for the queue gets it
when the first consumer is cancelled, and no server says whether there is one: `consumer_count`
leaves out those that wait."""

_IN_MEMORY = 16 * 2**20

_ONE_BY_ONE = "1-one-by-one"
_ALL = "2-all"


@dataclass(frozen=True, slots=True)
class _Waiting:
    delivery: Delivery
    size: int
    offset: int | None = None
    """Where the body is in the spool; None while it is in memory."""


class Consumer(Link):
    """Consumes one queue into a buffer that holds at most `prefetch` messages.

    A crash counts one delivery for each message that was out, so a process that may be about to
    crash again must not begin with a full prefetch. It begins with one message, the head of the
    queue, which was delivered as often as any. Where that is often, messages come one by one
    until one comes that was not. When that one is acknowledged, or has been in hand for a second,
    the prefetch is taken, by a second consumer of the channel, since that of the first one cannot
    be changed. An acknowledgement alone may take an epoch, or an alarm of the broker.

    The first consumer is cancelled before that, and its name sorts before that of the second one:
    after a crash a queue takes back what each of them held in the order of their names. Given
    back, the one message would come after all others that are delivered again.
    """

    def __init__(
        self,
        settings: RabbitMQSettings,
        declarations: list[dict[str, Any]],
        queue: str,
        prefetch: int,
    ) -> None:
        super().__init__(settings.parameters(), declarations, f"consumer-{queue}")
        self._queue = queue
        self._prefetch = prefetch
        self._lock = threading.Lock()
        self._buffer: deque[_Waiting] = deque()
        self._in_memory = 0
        self._spool = Spool()
        self._generation = 0
        self._channel: Channel | None = None
        self._careful = True
        self._calm: int | None = None

    @property
    def generation(self) -> int:
        """Counts the channels: a delivery of an earlier one cannot be acknowledged any more."""
        return self._generation

    def take(self, max_count: int, max_bytes: int) -> list[Delivery]:
        """Messages from the buffer, at least one if there is any."""
        taken: list[Delivery] = []
        size = 0
        with self._lock:
            while self._buffer and len(taken) < max_count:
                waiting = self._buffer[0]
                size += waiting.size
                if taken and size > max_bytes:
                    break
                self._buffer.popleft()
                taken.append(self._whole(waiting))
        return taken

    def acknowledge(self, generation: int, up_to: int | None, also: Sequence[int] = ()) -> None:
        """Acknowledge deliveries of a channel; ignored where it is lost, since the broker delivers
        them again.

        :param up_to: this delivery tag and all before it
        :param also: single ones
        """
        self.soon(lambda: self._acknowledge(generation, up_to, also))

    def on_channel(self, channel: Channel) -> None:
        """Consume."""
        self._channel = channel
        self._calm = None
        channel.add_on_cancel_callback(lambda _frame: channel.close())
        self._consume(channel)

    def on_lost(self) -> None:
        """Forget what came by the lost channel: the broker delivers it again."""
        with self._lock:
            self._channel = None
            self._buffer.clear()
            self._spool.clear()
            self._in_memory = 0
            self._generation += 1

    def _close_connection(self) -> None:
        """Close it without a word about the consumers.

        pika would cancel them first. The queue would then go to whoever waits for it while our
        messages are still out, and these would come after later ones.
        """
        if self._channel is not None:
            self._channel._cancelled.update(self._channel.consumer_tags)
        super()._close_connection()

    def _consume(self, channel: Channel) -> None:
        prefetch, tag = (1, _ONE_BY_ONE) if self._careful else (self._prefetch, _ALL)
        channel.basic_qos(
            prefetch_count=prefetch,
            callback=lambda _frame: channel.basic_consume(
                self._queue,
                self._received,
                consumer_tag=tag,
                arguments={"x-consumer-timeout": _HOLD_MS},
                callback=lambda _ok: self._consuming(),
            ),
        )

    def _consuming(self) -> None:
        self.answered()
        self.well()

    def _received(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        if channel.is_closing or channel.is_closed:
            return
        headers = properties.headers or {}
        receipt = Receipt(self._queue, self._generation, method.delivery_tag)
        delivery = Delivery(self._queue, body, headers, method.redelivered, receipt)
        with self._lock:
            self._buffer.append(self._waiting(delivery))
        if self._careful and _deliveries(headers) < CAREFUL_AFTER:
            self._calm = method.delivery_tag
            if self._connection is not None:
                self._connection.ioloop.call_later(_HANDLED_S, lambda: self._go_on(channel))

    def _go_on(self, channel: Channel) -> None:
        if channel.is_open and channel is self._channel and self._calm is not None:
            self._take_all(channel)

    def _take_all(self, channel: Channel, acknowledged: int | None = None) -> None:
        self._careful, self._calm = False, None
        self.asked()

        def cancelled(_frame: Any) -> None:
            if acknowledged is not None:
                channel.basic_ack(acknowledged)
            self._consume(channel)

        channel.basic_cancel(_ONE_BY_ONE, callback=cancelled)

    def _waiting(self, delivery: Delivery) -> _Waiting:
        size = len(delivery.body)
        if self._in_memory and self._in_memory + size > _IN_MEMORY:
            offset = self._spool.put(delivery.body)
            return _Waiting(replace(delivery, body=b""), size, offset)
        self._in_memory += size
        return _Waiting(delivery, size)

    def _whole(self, waiting: _Waiting) -> Delivery:
        if waiting.offset is None:
            self._in_memory -= waiting.size
            return waiting.delivery
        return replace(waiting.delivery, body=self._spool.get(waiting.offset, waiting.size))

    def _acknowledge(self, generation: int, up_to: int | None, also: Sequence[int]) -> None:
        channel = self._channel
        if channel is None or not channel.is_open or generation != self._generation:
            return
        if up_to is not None and up_to == self._calm:
            self._take_all(channel, up_to)
        elif up_to is not None:
            channel.basic_ack(up_to, multiple=True)
        for tag in also:
            channel.basic_ack(tag)


def _deliveries(headers: dict[str, Any]) -> int:
    count = headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0
