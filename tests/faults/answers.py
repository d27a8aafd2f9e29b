"""The errors that each server, or its driver, can answer a call with."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pika
from pika import exceptions as amqp
from pika import frame, spec
from pymongo import errors as mongo

Call = Callable[..., Any]

_MONGO: dict[str, Callable[[], Exception]] = {
    "lost": lambda: mongo.AutoReconnect("connection closed"),
    "timeout": lambda: mongo.NetworkTimeout("timed out"),
    "no server": lambda: mongo.ServerSelectionTimeoutError("No servers found yet"),
    "election": lambda: mongo.NotPrimaryError("not primary", {"ok": 0, "code": 10107}),
    "shutdown": lambda: mongo.NotPrimaryError("shutting down", {"ok": 0, "code": 91}),
    "unauthorised": lambda: mongo.OperationFailure("not authorized on twin to execute", 13),
    "history lost": lambda: mongo.OperationFailure("resume point may no longer be there", 286),
    "token refused": lambda: mongo.OperationFailure("resume token was not found", 280),
    "exists": lambda: mongo.DuplicateKeyError("E11000 duplicate key error", 11000),
    "disk full": lambda: mongo.OperationFailure("no space left", 14031),
    "cursor gone": lambda: mongo.CursorNotFound("cursor id 1 not found", 43),
}
_STREAM = {"history lost", "token refused"}
_WRITES = ("replace", "update", "insert", "delete", "find_one_and")


class RpcFailure(grpc.RpcError):  # type: ignore[misc]
    """What the gRPC client raises."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._answer = (code, details)

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]


_STATUS = grpc.StatusCode
_QDRANT: dict[str, tuple[grpc.StatusCode, str]] = {
    "lost": (_STATUS.UNAVAILABLE, "failed to connect to all addresses"),
    "timeout": (_STATUS.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    "unauthorised": (_STATUS.UNAUTHENTICATED, "Must provide an API key or an Authorization token"),
    "forbidden": (_STATUS.PERMISSION_DENIED, "Forbidden: Global manage access is required"),
    "rate": (_STATUS.RESOURCE_EXHAUSTED, "Rate limiting exceeded: Write rate limit exceeded"),
    "limit": (
        _STATUS.INVALID_ARGUMENT,
        "Bad request: Max points count limit of 10 reached for collection",
    ),
    "disk full": (
        _STATUS.INTERNAL,
        "Service internal error: No space left on device: WAL buffer size exceeds available disk",
    ),
    "internal": (_STATUS.INTERNAL, "Service internal error: task panicked"),
    "not found": (_STATUS.NOT_FOUND, "Not found: Collection `x` doesn't exist!"),
    "exists": (_STATUS.ALREADY_EXISTS, "Wrong input: Collection `x` already exists!"),
    "invalid": (_STATUS.INVALID_ARGUMENT, "Wrong input: Vector dimension error"),
}


def faults_of(driver: str, method: str) -> list[str]:
    """The kinds of fault that a method of a driver can meet; ` after`: it took effect first."""
    class_, _, name = method.partition(".")
    return {"qdrant": _qdrant_faults, "pymongo": _mongo_faults, "pika": _pika_faults}[driver](
        class_, name
    )


def _qdrant_faults(_class: str, name: str) -> list[str]:
    kinds = ["lost", "lost after", "timeout after", "unauthorised", "forbidden", "rate"]
    kinds += ["limit", "disk full", "internal", "not found"]
    if name.startswith("create"):
        kinds.append("exists")
    if name in ("upsert", "batch_update_points", "set_payload"):
        kinds.append("invalid")
    return kinds


def _mongo_faults(class_: str, name: str) -> list[str]:
    kinds = ["lost", "lost after", "timeout", "no server", "election", "shutdown after"]
    kinds.append("unauthorised")
    if class_.endswith("ChangeStream") or name == "watch":
        kinds += sorted(_STREAM)
    if name.startswith(_WRITES):
        kinds += ["exists", "disk full"]
    if class_.endswith("Cursor"):
        kinds.append("cursor gone")
    return kinds


def _pika_faults(class_: str, name: str) -> list[str]:
    if name == "__init__":
        return ["refused"]
    kinds = ["lost", "lost after", "channel closed"]
    if not class_.startswith("Blocking"):
        kinds.append("blocked")
    if name in ("basic_publish", "_output_marshaled_frames"):
        kinds += ["nack", "returned"]
    return kinds


def answer_pymongo(
    kind: str, call: Call, self: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Raise the error of a kind, before or after the call."""
    if kind.endswith(" after"):
        call(self, *args, **kwargs)
    error = _MONGO[kind.removesuffix(" after")]()
    raise error


def answer_qdrant(
    kind: str, call: Call, self: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Raise the status of a kind, before or after the call."""
    if kind.endswith(" after"):
        call(self, *args, **kwargs)
    raise RpcFailure(*_QDRANT[kind.removesuffix(" after")])


def answer_pika(
    kind: str, call: Call, self: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do to a connection what a broker, or the network, does to it."""
    if type(self).__module__.endswith("blocking_connection"):
        return _blocking(kind, call, self, name, args, kwargs)
    if kind == "refused":
        refused = pika.ConnectionParameters(host="127.0.0.1", port=1, socket_timeout=1)
        return call(self, refused, *args[1:], **kwargs)
    connection = self if isinstance(self, pika.SelectConnection) else self.connection
    number = getattr(self, "channel_number", args[0] if name == "publish" else 1)
    if kind == "lost":
        _cut(connection)
        return call(self, *args, **kwargs)
    if kind in ("nack", "returned"):
        soon = _returned if kind == "returned" else _nacked
        connection.ioloop.call_later(0.05, lambda: soon(connection, number))
        return None
    result = call(self, *args, **kwargs)
    if kind == "lost after":
        connection.ioloop.call_later(0, lambda: _cut(connection))
    elif kind == "channel closed":
        closed = spec.Channel.Close(541, "INTERNAL_ERROR - fault", 0, 0)
        connection.ioloop.call_later(0, lambda: _from_broker(connection, number, closed))
    elif kind == "blocked":
        blocked, unblocked = spec.Connection.Blocked("low on memory"), spec.Connection.Unblocked()
        connection.ioloop.call_later(0, lambda: _from_broker(connection, 0, blocked))
        connection.ioloop.call_later(1.5, lambda: _from_broker(connection, 0, unblocked))
    return result


def _blocking(
    kind: str, call: Call, self: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if kind == "lost":
        raise amqp.StreamLostError("Stream connection lost: fault")
    if kind == "channel closed":
        raise amqp.ChannelClosedByBroker(541, "INTERNAL_ERROR - fault")
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
    _from_broker(connection, channel, spec.Basic.Nack(2**62, multiple=True))


def _returned(connection: Any, channel: int) -> None:
    returned = spec.Basic.Return(312, "NO_ROUTE", "", "fault")
    _from_broker(connection, channel, returned)
    with suppress(Exception):
        connection._process_frame(frame.Header(channel, 0, pika.BasicProperties()))
    _nacked(connection, channel)


ANSWERS = {"pymongo": answer_pymongo, "qdrant": answer_qdrant, "pika": answer_pika}
