"""What a RabbitMQ broker, or the network before it, does to a connection."""

import socket
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import pika
from pika import exceptions as amqp
from pika import frame, spec

Call = Callable[..., Any]

_CLOSES = {
    "channel closed": (541, "INTERNAL_ERROR - fault"),
    "unauthorised": (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused"),
    "not found": (404, "NOT_FOUND - no queue 'q' in vhost '/'"),
    "exists": (406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q'"),
    "limit": (406, "PRECONDITION_FAILED - queue limit in vhost '/' (1) is reached"),
}
_PUBLISHING = {"basic_publish", "_output_marshaled_frames"}
_SILENT = socket.socket()
"""Listens, and never answers."""


def faults_of(class_: str, name: str) -> list[str]:
    """The kinds that a method can meet."""
    if name == "__init__":
        return ["refused", "timeout", "unauthorised", "not found"]
    kinds = ["lost", "lost after", "channel closed"]
    blocking = class_.startswith("Blocking")
    if not blocking:
        kinds.append("blocked")
    if name == "queue_declare":
        kinds += ["unauthorised", "exists", "limit", "not found"]
    if name in ("basic_consume", "basic_get"):
        kinds += ["unauthorised", "not found"]
    if name in _PUBLISHING:
        kinds += ["nack", "returned", "unauthorised"]
    elif not blocking and name != "basic_ack":
        kinds.append("timeout")
    return kinds


def answer(
    kind: str,
    call: Call,
    self: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Do to a connection what a broker, or the network, does to it."""
    if name == "__init__":
        return call(self, _spoilt(kind, *args, **kwargs), *args[1:], **kwargs)
    if type(self).__module__.endswith("blocking_connection"):
        return _blocking(kind, call, self, name, args, kwargs)
    connection = self if isinstance(self, pika.SelectConnection) else self.connection
    number = getattr(self, "channel_number", 1)
    if kind == "lost":
        _cut(connection)
        return call(self, *args, **kwargs)
    if kind == "timeout":  # the broker never answers
        return None
    if kind in ("nack", "returned"):
        soon = _returned if kind == "returned" else _nacked
        # Until then nothing is sent: the broker would count messages that it has not seen.
        connection._output_marshaled_frames = lambda _frames: None
        connection.ioloop.call_later(0.05, lambda: soon(connection, number))
        return None
    if kind in _CLOSES:
        result = call(self, *args, **kwargs) if kind == "channel closed" else None
        closed = spec.Channel.Close(*_CLOSES[kind], 0, 0)
        connection.ioloop.call_later(0, lambda: _from_broker(connection, number, closed))
        return result
    result = call(self, *args, **kwargs)
    if kind == "lost after":
        connection.ioloop.call_later(0, lambda: _cut(connection))
    elif kind == "blocked":
        blocked, unblocked = spec.Connection.Blocked("low on memory"), spec.Connection.Unblocked()
        connection.ioloop.call_later(0, lambda: _from_broker(connection, 0, blocked))
        connection.ioloop.call_later(1.0, lambda: _from_broker(connection, 0, unblocked))
    return result


def _spoilt(kind: str, parameters: Any, *_args: Any, **_kwargs: Any) -> Any:
    """Parameters of a connection that fails in one way."""
    spoilt = copy(parameters)
    if kind == "refused":
        spoilt.port = 1
    elif kind == "timeout":
        with suppress(OSError):  # it is bound already
            _SILENT.bind(("127.0.0.1", 0))
            _SILENT.listen()
        spoilt.host, spoilt.port = _SILENT.getsockname()
        spoilt.stack_timeout = 1
    elif kind == "unauthorised":
        spoilt.credentials = pika.PlainCredentials("guest", "wrong")
    else:
        spoilt.virtual_host = "no such host"
    return spoilt


def _blocking(
    kind: str, call: Call, self: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if kind == "lost":
        raise amqp.StreamLostError("Stream connection lost: fault")
    if kind in _CLOSES:
        raise amqp.ChannelClosedByBroker(*_CLOSES[kind])
    if kind == "nack":
        raise amqp.NackError([])
    if kind == "returned":
        raise amqp.UnroutableError([])
    call(self, *args, **kwargs)
    raise amqp.StreamLostError("Stream connection lost: fault")


def _cut(connection: Any) -> None:
    """As the network does it: the socket is dead, and the client finds out by using it."""
    transport = getattr(connection, "_transport", None)
    if transport is not None:
        with suppress(OSError):
            transport._sock.shutdown(socket.SHUT_RDWR)


def _from_broker(connection: Any, channel: int, method: Any) -> None:
    with suppress(Exception):  # the connection may have gone meanwhile
        if connection.is_open:
            connection._process_frame(frame.Method(channel, method))


def _nacked(connection: Any, channel: int) -> None:
    vars(connection).pop("_output_marshaled_frames", None)
    _from_broker(connection, channel, spec.Basic.Nack(2**62, multiple=True))


def _returned(connection: Any, channel: int) -> None:
    vars(connection).pop("_output_marshaled_frames", None)
    returned = spec.Basic.Return(312, "NO_ROUTE", "", "fault")
    _from_broker(connection, channel, returned)
    with suppress(Exception):
        connection._process_frame(frame.Header(channel, 0, pika.BasicProperties()))
    _nacked(connection, channel)
