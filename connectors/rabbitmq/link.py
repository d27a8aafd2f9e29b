"""One AMQP connection with a thread of its own, so that heartbeats survive a long embedding."""

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByClient,
    ConnectionWrongStateError,
)
from pika.frame import Body, Header, Method
from pika.spec import Basic

from connectors.patience import Patience
from models.errors import ConfigurationError

_MAX_WAIT = 5.0
_PRECONDITION_FAILED = 406


_JOINED_BYTES = 2**17


@lru_cache(maxsize=1024)
def _publish_frame(channel_number: int, queue: str) -> bytes:
    method = Basic.Publish(exchange="", routing_key=queue, mandatory=True)
    marshaled: bytes = Method(channel_number, method).marshal()
    return marshaled


class JoiningConnection(pika.SelectConnection):  # type: ignore[misc]
    """Publishes many messages with few system calls.

    Pika makes three for each message, and gives up the interpreter's lock for each of them.
    """

    def publish(
        self, channel_number: int, messages: Iterable[tuple[str, bytes, pika.BasicProperties]]
    ) -> None:
        """Publish to queues by their names, mandatory, in order.

        :param messages: queue, body and properties of each
        """
        frames: list[bytes] = []
        joined = 0
        for queue, body, properties in messages:
            frames.append(_publish_frame(channel_number, queue))
            frames.append(Header(channel_number, len(body), properties).marshal())
            for begin in range(0, len(body), self._body_max_length):
                part = body[begin : begin + self._body_max_length]
                frames.append(Body(channel_number, part).marshal())
            joined += len(body)
            if joined > _JOINED_BYTES:
                self._output_marshaled_frames([b"".join(frames)])
                frames, joined = [], 0
        if frames:
            self._output_marshaled_frames([b"".join(frames)])


class Link(ABC):
    """Keeps a connection with one channel open until it is closed; reconnects with backoff.

    Subclasses say what happens on the channel. Methods named `on_…` run in the link's thread.

    :param parameters: where to connect
    :param name: the thread's name
    """

    def __init__(self, parameters: pika.ConnectionParameters, name: str) -> None:
        self._parameters = parameters
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closing = threading.Event()
        self._connection: JoiningConnection | None = None
        self._patience = Patience("RabbitMQ", lambda error: True)
        self._log = logging.getLogger("connectors")
        self._failure: Exception | None = None
        self._was_ready = False

    def start(self) -> None:
        """Start connecting, without waiting for it."""
        self._thread.start()

    @abstractmethod
    def on_channel(self, channel: Channel) -> None:
        """A new channel is open: declare, consume, publish."""

    @abstractmethod
    def on_lost(self) -> None:
        """The channel is gone, and with it everything that was not confirmed or acknowledged."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the link's thread, if there is a connection now."""
        connection = self._connection
        if connection is not None:
            # a connection that is going away: on_lost follows
            with suppress(ConnectionWrongStateError, RuntimeError, OSError):
                connection.ioloop.add_callback_threadsafe(callback)

    def ready(self) -> None:
        """To be called when the channel can do its work: only then is the broker back."""
        self._was_ready = True
        self._patience.back()

    def check(self) -> None:
        """Raise what keeps this link from ever working, if anything does.

        :raises ConfigurationError: a queue exists with other arguments
        """
        if self._failure is not None:
            raise self._failure

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; what is not acknowledged goes back to its queue. Never raises."""
        self._closing.set()
        self.soon(self._close_connection)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        wait = 0.1
        while not self._closing.is_set():
            opened = self._connect_once()
            if self._failure is not None:
                return
            wait = 0.1 if opened else min(_MAX_WAIT, wait * 2)
            self._closing.wait(wait * random.uniform(0.8, 1.2))

    def _connect_once(self) -> bool:  # noqa: C901 (four callbacks of one connection)
        """Run one connection from its start to its end; true if its channel became ready."""
        self._was_ready = False

        def on_open(connection: pika.SelectConnection) -> None:
            connection.add_on_connection_blocked_callback(self._blocked)
            connection.add_on_connection_unblocked_callback(self._unblocked)
            connection.channel(on_open_callback=on_channel)

        def on_channel(channel: Channel) -> None:
            channel.add_on_close_callback(on_channel_closed)
            self.on_channel(channel)

        def on_channel_closed(channel: Channel, reason: Exception) -> None:
            if isinstance(reason, ChannelClosedByBroker) and not self._closing.is_set():
                if (
                    reason.reply_code == _PRECONDITION_FAILED
                    and "inequivalent" in reason.reply_text
                ):
                    self._failure = ConfigurationError(
                        f"RabbitMQ: {reason.reply_text}: the queue exists with other arguments; "
                        "delete it, or set RABBITMQ_QUEUE_NAME to another name"
                    )
                else:
                    self._patience.away(reason)
            self._close_connection()

        def on_ended(connection: pika.SelectConnection, error: BaseException) -> None:
            if not self._closing.is_set() and not isinstance(error, ConnectionClosedByClient):
                self._patience.away(error)
            connection.ioloop.stop()

        try:
            connection = JoiningConnection(
                self._parameters, on_open, on_open_error_callback=on_ended,
                on_close_callback=on_ended,
            )  # fmt: skip
            self._connection = connection
            if self._closing.is_set():
                return self._was_ready
            connection.ioloop.start()
        except (AMQPError, OSError) as error:
            self._patience.away(error)
        except Exception as error:  # noqa: BLE001 (a fault of ours: the flow must end, not hang)
            self._failure = error
        finally:
            if self._connection is not None:
                self._connection.ioloop.close()
            self._connection = None
            self.on_lost()
        return self._was_ready

    def _close_connection(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.is_open:
            connection.close()
        elif not (connection.is_closing or connection.is_closed):
            connection.ioloop.stop()

    def _blocked(self, _connection: Any, frame: Any) -> None:
        self._patience.away(RuntimeError(f"blocked by the broker: {frame.method.reason}"))

    def _unblocked(self, _connection: Any, _frame: Any) -> None:
        self._patience.back()


def declare_all(
    channel: Channel, declarations: list[dict[str, Any]], done: Callable[[], None]
) -> None:
    """Declare queues one after the other, then call `done`."""
    if not declarations:
        done()
        return
    channel.queue_declare(
        **declarations[0],
        callback=lambda _frame: declare_all(channel, declarations[1:], done),
    )
