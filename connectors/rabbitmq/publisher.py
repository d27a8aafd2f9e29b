"""Publishing in order with a window of confirms, without making anybody wait."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.compat import long
from pika.spec import Basic

from connectors.rabbitmq.link import Link
from connectors.rabbitmq.settings import RabbitMQSettings
from models import Message, Receipt

_MAX_BYTES = 32 * 2**20
_MAX_INT32 = 2**31 - 1
_LAST_CONFIRMS_S = 1.0
_LOOK_AGAIN_S = 0.02


class RabbitMQPublisher(Link):
    """Publishes messages to the queues that they name, persistent, mandatory and confirmed.

    One for all workers of a process. Delivery: at least once, in the order of submission. The
    unconfirmed messages of a lost channel are sent again, in order; a refusal (a full queue) counts
    as a loss, and sending begins anew with one message at a time. Nobody waits for a confirm: who
    gives something up for what was submitted first asks for `confirmed` or `unconfirmed`.

    :param settings: how to reach the broker
    :param declarations: queues to declare on each new channel, see `topology`
    :param window: unconfirmed messages at a time
    """

    def __init__(
        self,
        settings: RabbitMQSettings,
        declarations: list[dict[str, Any]],
        window: int = 1000,
        name: str = "publisher",
    ) -> None:
        super().__init__(settings.parameters(), declarations, name)
        self._full_window = self._window = window
        self._lock = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._sent: deque[Message] = deque()
        self._first_tag = 1
        self._early: set[int] = set()
        self._refused: int | None = None
        self._bytes = 0
        self._submitted = 0
        self._channel: Channel | None = None

    def submit(self, messages: Sequence[Message]) -> None:
        """Queue messages; returns at once. See `has_room` for who could submit too much."""
        with self._lock:
            self._waiting.extend(messages)
            self._submitted += len(messages)
            self._bytes += sum(len(message.body) for message in messages)
        self.soon(self._pump)

    @property
    def submitted(self) -> int:
        """How many messages were submitted so far."""
        return self._submitted

    @property
    def confirmed(self) -> int:
        """How many of these, counted from the first without a gap, the broker has confirmed."""
        with self._lock:
            return self._submitted - len(self._waiting) - len(self._sent)

    def unconfirmed(self) -> set[Receipt | None]:
        """The deliveries of which messages were made that are not confirmed yet; None among them
        stands for messages of which nobody said what they were made of.
        """
        with self._lock:
            open_ = [*self._sent, *self._waiting]
        return {message.receipt for message in open_}

    @property
    def has_room(self) -> bool:
        """Whether more is welcome: less than a window waits, and less than 32 MiB."""
        # one window is enough: it is sent while the next batch is made
        return len(self._waiting) <= self._full_window and not self.is_heavy

    @property
    def is_heavy(self) -> bool:
        """Whether what is not confirmed holds more memory than it should."""
        return self._bytes > _MAX_BYTES

    def flush(self) -> None:
        """Wait until everything submitted is confirmed; for who has nothing else to do.

        :raises ConnectorFailedError: that will never be
        """
        while self.confirmed < self.submitted:
            self.check()
            time.sleep(_LOOK_AGAIN_S)

    def on_channel(self, channel: Channel) -> None:
        """Send what waits."""
        channel.add_on_return_callback(self._returned)
        self._first_tag = 1
        self._refused = None
        channel.confirm_delivery(self._answer, lambda _ok: self._confirming(channel))

    def _confirming(self, channel: Channel) -> None:
        self._channel = channel
        self.answered()
        if self._window == self._full_window:
            self.well()
        self._pump()

    def on_lost(self) -> None:
        """Put what was not confirmed back in front, in its order."""
        with self._lock:
            self._channel = None
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()
            self._early.clear()

    def _pump(self) -> None:
        channel, connection = self._channel, self._connection
        if channel is None or connection is None or not channel.is_open:
            return
        with self._lock:
            room = min(len(self._waiting), self._window - len(self._sent))
            some = [self._waiting.popleft() for _ in range(room)]
            self._sent.extend(some)
        connection.publish(
            channel.channel_number,
            ((message.queue, message.body, _properties(message)) for message in some),
        )

    def _answer(self, frame: Any) -> None:
        if self._channel is None:
            return
        method = frame.method
        if isinstance(method, Basic.Nack):
            self._refuse(method.delivery_tag, method.multiple)
        else:
            self._confirm(method.delivery_tag, method.multiple)
        if self._refused is None:
            self._pump()
        elif self._first_tag >= self._refused:
            self._give_up_channel()

    def _confirm(self, tag: int, multiple: bool) -> None:
        with self._lock:
            # what was refused, and what comes after it, is sent again whatever else is said of it
            last = tag if self._refused is None else min(tag, self._refused - 1)
            if multiple:
                self._forget(last - self._first_tag + 1)
            elif last == tag:
                self._early.add(tag)
            while self._first_tag in self._early:
                self._forget(1)
            finished = not self._sent
        if finished and self._refused is None and self._window < self._full_window:
            self._widen()

    def _forget(self, count: int) -> None:
        for _ in range(min(count, len(self._sent))):
            self._bytes -= len(self._sent.popleft().body)
            self._early.discard(self._first_tag)
            self._first_tag += 1

    def _widen(self) -> None:
        self._backoff.reset()
        self._window = min(self._full_window, self._window * 2)
        if self._window == self._full_window or not self._waiting:
            self._window = self._full_window
            self.well()

    def _refuse(self, tag: int, multiple: bool) -> None:
        first = self._refused is None
        tag = self._first_tag if multiple else tag
        self._refused = tag if self._refused is None else min(tag, self._refused)
        if not first:
            return
        place = self._refused - self._first_tag
        queue = self._sent[place].queue if 0 <= place < len(self._sent) else "?"
        self._window = 1
        self._patience.away(RuntimeError(f"it refuses messages for the queue {queue}: is it full?"))
        if self._connection is not None:  # those before it may be confirmed yet
            self._connection.ioloop.call_later(_LAST_CONFIRMS_S, self._give_up_channel)

    def _returned(self, _channel: Channel, method: Any, _properties: Any, _body: bytes) -> None:
        # A queue was deleted under us, and a confirm follows that must not count: a new channel
        # declares the queue again and everything that is unconfirmed is sent again.
        self._patience.away(RuntimeError(f"queue {method.routing_key} is gone, declaring it again"))
        self._give_up_channel()

    def _give_up_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
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
