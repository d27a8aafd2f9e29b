"""Messages of the wire protocol: OP_MSG, and whatever else passes unread."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

OP_MSG = 2013
_MORE_TO_COME = 1 << 1
_HEADER = struct.Struct("<iiii")
CODEC: "CodecOptions[dict[str, Any]]" = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

Document = dict[str, Any]


class ConnectionCutError(Exception):
    """One side has closed the connection, or is to be closed."""


@dataclass
class Message:
    """One message, with the document of its body; without one where nobody understands it."""

    raw: bytes
    body: Document | None

    @property
    def answered(self) -> bool:
        """Whether the other side sends a reply."""
        return self.body is None or not self._flags & _MORE_TO_COME

    @property
    def command(self) -> str:
        """The name of the command."""
        return next(iter(self.body), "") if self.body else ""

    @property
    def _flags(self) -> int:
        return int(struct.unpack_from("<I", self.raw, _HEADER.size)[0])

    @property
    def id(self) -> int:
        """What a reply refers to."""
        return int(_HEADER.unpack_from(self.raw)[1])

    @classmethod
    def read(cls, stream: socket.socket) -> "Message":
        """The next message.

        :raises ConnectionCutError: there is none
        """
        header = _exactly(stream, _HEADER.size)
        length, _, _, code = _HEADER.unpack(header)
        raw = header + _exactly(stream, length - _HEADER.size)
        return cls(raw, _body(raw) if code == OP_MSG else None)

    @classmethod
    def reply(cls, request: "Message", body: Document) -> "Message":
        """A message that answers another one."""
        payload = struct.pack("<IB", 0, 0) + bson.encode(body, codec_options=CODEC)
        header = _HEADER.pack(_HEADER.size + len(payload), 0, request.id, OP_MSG)
        return cls(header + payload, body)


class Ask(Protocol):
    """Has a server answer a message."""

    def __call__(self, request: Message, port: int | None = None) -> Message:
        """The reply.

        :param port: of another server than the one behind the proxy
        :raises ConnectionCutError: there is none
        """
        ...


def failure(code: int, name: str, said: str = "", labels: Sequence[str] = ()) -> Document:
    """The body of an error reply."""
    body: Document = {"ok": 0.0, "errmsg": said or name, "code": code, "codeName": name}
    return {**body, "errorLabels": list(labels)} if labels else body


def _body(raw: bytes) -> Document | None:
    at = _HEADER.size + 4
    while at < len(raw):
        kind, size = struct.unpack_from("<Bi", raw, at)
        if kind == 0:
            return bson.decode(raw[at + 1 : at + 1 + size], CODEC)
        at += 1 + size
    return None


def _exactly(stream: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        try:
            part = stream.recv(min(count, 1 << 20))
        except OSError as error:
            raise ConnectionCutError from error
        if not part:
            raise ConnectionCutError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
