"""The wire contract between the flows: a change event and its AMQP message, `schema` 1."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from bson.json_util import RELAXED_JSON_OPTIONS
from bson.json_util import default as extended_json
from bson.json_util import dumps as extended_dumps

from models.identity import entry_id_of
from models.version import Version

SCHEMA = 1
OPS = frozenset({"insert", "update", "replace", "snapshot", "repair", "delete", "drop"})


class CapturedChange(NamedTuple):
    """A change as the stream or a snapshot row tells it, before it is put into a message."""

    op: str
    collection: str
    version: int
    """clusterTime: seconds << 32 | increment."""
    id: Any = None
    """The `_id`, of any BSON type; None for the drop of a collection."""
    document: Mapping[str, Any] | None = None
    """The whole document, with its `_id`; None for delete and drop."""
    committed_ms: int = 0
    """Wall clock of the commit in milliseconds since 1970; 0 where it is not known."""
    ordinal: int = 0
    """Place among the changes of the same cluster time, which those of one transaction share."""


class Receipt(NamedTuple):
    """Names one delivery to whoever may acknowledge it."""

    queue: str
    channel: int
    """Which channel of its consumer it came by: the tag of another one means nothing."""
    tag: int


class Message(NamedTuple):
    """An AMQP message to be published, persistent and mandatory, to a queue by its name."""

    queue: str
    body: bytes
    headers: Mapping[str, Any] = {}
    type: str = ""
    """AMQP property `type`: the operation."""
    message_id: str = ""
    receipt: Receipt | None = None
    """The delivery of which this was made; acknowledged after this is confirmed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An AMQP message as it was consumed."""

    queue: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    """The broker gave it out before: what that attempt wrote is unknown."""
    receipt: Receipt | None = None
    """The receipt that acknowledges it; None where nothing does."""


class ChangeEvent(NamedTuple):
    """One change of one document, or the drop of a collection."""

    op: str
    """insert, update, replace, delete, snapshot, repair or drop."""
    type: str
    """The document type, which is the MongoDB collection."""
    entry_id: str
    """Empty for a drop only."""
    version: Version
    body: Mapping[str, Any] = {}
    """The flat document with `type` and `entry_id`."""
    fenced: bool = True
    """False where the message has no version: the change counts as made when it is read, so it is
    never older than what is stored."""
    committed_ms: int = 0
    foreign: bool = False
    """Made by a producer that gave no version, also where a replay has added one: it proves
    nothing about MongoDB, so a failure of it takes nothing away."""
    place: str | None = None
    """Id of the only place that it is for, see `models.places`; None for all."""

    @classmethod
    def from_change(cls, change: CapturedChange) -> "ChangeEvent":
        """The event of a captured change."""
        entry_id = "" if change.op == "drop" else entry_id_of(change.id)
        body = dict(change.document or {})
        body.pop("_id", None)
        # ours win over fields of the same name: a document must not speak for another one
        body["type"] = change.collection
        if change.op != "drop":
            body["entry_id"] = entry_id
        version = Version(change.version, change.ordinal)
        return cls(change.op, change.collection, entry_id, version, body, True, change.committed_ms)

    def to_message(self, queue: str) -> Message:
        """Its AMQP form. Body: relaxed Extended JSON in UTF-8."""
        headers: dict[str, Any] = {"op": self.op, "version": self.version.time, "schema": SCHEMA}
        if self.version.ordinal:
            headers["ordinal"] = self.version.ordinal
        if self.committed_ms:
            headers["committed_ms"] = self.committed_ms
        if self.place is not None:
            headers["place"] = self.place
        name = f"{self.version.time}/{self.version.ordinal}/{self.type}/{self.entry_id}"
        return Message(
            queue=queue,
            body=_relaxed_json(self.body),
            headers=headers,
            type=self.op,
            message_id=blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
        )

    @classmethod
    def from_delivery(cls, delivery: Delivery) -> "ChangeEvent":
        """Read a message; without headers it is an upsert, versioned by the time it is read.

        :raises ValueError: body that is no JSON object, a missing or malformed field or header
        """
        body = _json_object(delivery.body)
        headers = delivery.headers
        schema = headers.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r:.80} is not known; this flow reads schema {SCHEMA}")
        op = headers.get("op", "update")
        if not isinstance(op, str) or op not in OPS:
            raise ValueError(f"operation {op!r:.80} is not known")
        fenced = "version" in headers
        version = Version.read(headers if fenced else {"version": int(time.time()) << 32})
        if op == "drop" and not fenced:
            raise ValueError("a drop must say by its version how far back it goes")
        committed_ms, place = headers.get("committed_ms", 0), headers.get("place")
        return cls(
            op=op,
            type=_text(body, "type"),
            entry_id="" if op == "drop" else _text(body, "entry_id"),
            version=version,
            body=body,
            fenced=fenced,
            committed_ms=int(committed_ms) if _is_integer(committed_ms) else 0,
            foreign=not fenced or headers.get("foreign") is True,
            place=place if isinstance(place, str) else None,
        )


def _extended(value: Any) -> Any:
    return extended_json(value, RELAXED_JSON_OPTIONS)


_encode = json.JSONEncoder(default=_extended, ensure_ascii=False, allow_nan=False).encode


def _relaxed_json(body: Mapping[str, Any]) -> bytes:
    try:
        data = orjson.dumps(body, _extended, orjson.OPT_PASSTHROUGH_DATETIME)
    except orjson.JSONEncodeError:  # nested deeper than it goes
        data = b"null"
    # NaN and the infinities, which have a form in Extended JSON only, have become null
    if b"null" not in data:
        return data
    try:
        text = _encode(body)
    except ValueError:
        text = extended_dumps(body, json_options=RELAXED_JSON_OPTIONS)
    return text.encode()


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is no JSON in UTF-8: {error}") from error
    if not isinstance(body, dict):
        raise ValueError(f"the body is a JSON {type(body).__name__}, not an object")
    return body


def _is_integer(value: Any) -> bool:
    # pika reads a 64-bit header as a subclass of int
    return isinstance(value, int) and not isinstance(value, bool)


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a text that is not empty, not {value!r:.80}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{key} holds a lone surrogate")
    return value
