"""One AMQP connection with a thread of its own, so that heartbeats survive a long embedding."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByClient,
    ConnectionWrongStateError,
)

from connectors.patience import Backoff, Patience, explain
from connectors.rabbitmq.declare import Declaring
from connectors.rabbitmq.frames import JoiningConnection
from connectors.rabbitmq.resolving import ResolvesInPlace
from connectors.rabbitmq.unwrap import unwrapped
from connectors.thread import ConnectorThread
from models.errors import ConfigurationError

_BEAT_S = 5.0
_UNANSWERED_S = 60.0
_STILL_S = 300.0
_HANG_UP_S = 1.0


class Link(ABC):
    """Keeps a connection with one channel open until it is closed; reconnects with backoff.

    Subclasses say what happens on the channel. Methods named `on_…` run in the link's thread.

    :param parameters: where to connect
    :param declarations: the queues that each new channel declares
    :param name: the thread's name
    """

    def __init__(
        self,
        parameters: pika.ConnectionParameters,
        declarations: list[dict[str, Any]],
        name: str,
    ) -> None:
        self._parameters = parameters
        self._queues = Declaring(declarations)
        self._thread = ConnectorThread(name, self._run, _STILL_S)
        self._backoff = Backoff()
        self._connection: JoiningConnection | None = None
        self._patience = Patience(
            "RabbitMQ", lambda error: True, explain=lambda error: explain(unwrapped(error))
        )
        self._log = logging.getLogger("connectors")
        self._refusal: ConfigurationError | None = None
        self._is_ready = False
        self._asked_at = 0.0

    def start(self) -> None:
        """Start connecting, without waiting for it; nothing, if that was done before."""
        self._thread.start()

    @abstractmethod
    def on_channel(self, channel: Channel) -> None:
        """A new channel is open and has declared the queues: consume, publish."""

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

    def asked(self) -> None:
        """To be called when something is asked of the broker without which nothing goes on: a
        connection is given up on which that is not answered.
        """
        self._is_ready = False
        self._asked_at = time.monotonic()

    def answered(self) -> None:
        """To be called when the broker has done what it was asked for."""
        self._is_ready = True

    def well(self) -> None:
        """To be called when the channel does its work: only then is the broker back."""
        self._backoff.reset()
        self._patience.back()

    def check(self) -> None:
        """Raise what keeps this link from ever working, if anything does.

        :raises ConfigurationError: a queue exists with other arguments
        :raises ConnectorFailedError: the link's thread has failed
        """
        self._thread.check()

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; what is not acknowledged goes back to its queue. Never raises."""
        self._thread.end_soon()
        self.soon(self._close_connection)
        self._thread.close(timeout)

    def _run(self) -> None:
        while not self._thread.closing:
            self._connect_once()
            if self._refusal is not None:
                raise self._refusal
            self._thread.pause(self._backoff.next())

    def _connect_once(self) -> None:
        """Run one connection from its start to its end."""
        self.asked()
        try:
            connection = JoiningConnection(
                self._parameters, self._opened, on_open_error_callback=self._ended,
                on_close_callback=self._ended, custom_ioloop=ResolvesInPlace(),
            )  # fmt: skip
            self._connection = connection
            self._tick(connection)
            if not self._thread.closing:
                connection.ioloop.start()
        except (AMQPError, OSError) as error:
            self._patience.away(error)
        finally:
            if self._connection is not None:
                _hang_up(self._connection)
                self._connection.ioloop.close()
            self._connection = None
            self.on_lost()

    def _opened(self, connection: pika.SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(self._unblocked)
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self._queues.declare(channel, lambda: self.on_channel(channel))

    def _channel_closed(self, _channel: Channel, reason: Exception) -> None:
        if isinstance(reason, ChannelClosedByBroker) and not self._thread.closing:
            self._judge(reason)
        self._close_connection()

    def _judge(self, reason: ChannelClosedByBroker) -> None:
        said = self._queues.refused(reason)
        if isinstance(said, ConfigurationError):
            self._refusal = said
        elif said is not None:
            self._patience.away(said)

    def _ended(self, connection: pika.SelectConnection, error: BaseException) -> None:
        if not self._thread.closing and not isinstance(error, ConnectionClosedByClient):
            self._patience.away(error)
        connection.ioloop.stop()

    def _tick(self, connection: pika.SelectConnection) -> None:
        """Show that the loop turns, and give up a connection whose broker does not answer."""
        self._thread.beat()
        if not self._is_ready and time.monotonic() - self._asked_at > _UNANSWERED_S:
            self._patience.away(TimeoutError(f"no answer for {_UNANSWERED_S:.0f} s"))
            connection.ioloop.stop()
            return
        connection.ioloop.call_later(_BEAT_S, lambda: self._tick(connection))

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


def _hang_up(connection: JoiningConnection) -> None:
    """Close the socket of a connection that is given up while it is open. The broker would keep
    its consumer, and the messages that this one holds, until heartbeats are missed.
    """
    if connection.is_closed:
        return
    with suppress(AMQPError, OSError):
        connection.give_up()
        connection.ioloop.call_later(_HANG_UP_S, connection.ioloop.stop)
        connection.ioloop.start()
