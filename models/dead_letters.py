"""A message that could not be handled, with the reason."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.events import Delivery, Message, Receipt
from models.shown import shown
from models.version import Version

OWN_HEADERS = ("reason", "stage", "queue", "failed_at", "document_type", "document_id")
"""Headers that a dead letter has beside those that its message came with."""

_MAX_REASON = 500
_MAX_HEADER = 4096
_MAX_CARRIED = 64
_MAX_KEY = 100


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message for `<queue>.dlq`: the original body byte for byte, the reason in headers."""

    body: bytes
    stage: str
    """The step that failed: decode, clean, chunk, embed, index or encode."""
    reason: str
    """One line for a person."""
    queue: str = ""
    """The queue it came from; empty where it never reached one."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """The headers it came with."""
    type: str = ""
    entry_id: str = ""
    version: Version | None = None
    """As read; a replay carries it, so that it cannot overwrite something newer."""
    foreign: bool = False
    """As of the change event; a replay carries it, too."""
    receipt: Receipt | None = None
    """The delivery that waits until this letter is safe."""

    @classmethod
    def of(cls, delivery: Delivery, stage: str, error: BaseException) -> "DeadLetter":
        """The dead letter of a consumed message."""
        return cls(
            delivery.body,
            stage,
            describe(error),
            delivery.queue,
            dict(delivery.headers),
            receipt=delivery.receipt,
        )

    def to_message(self, queue: str) -> Message:
        """Its AMQP form for the dead-letter queue named `queue`."""
        own: dict[str, Any] = {
            "reason": self.reason,
            "stage": self.stage,
            "queue": self.queue,
            "failed_at": int(time.time()),
        }
        if self.type:
            own["document_type"] = self.type
        if self.entry_id and len(_utf8(self.entry_id)) <= _MAX_HEADER:
            own["document_id"] = self.entry_id
        if self.version is not None:
            own |= self.version.fields()
        if self.foreign:
            own["foreign"] = True
        headers = {**_carried(self.headers), **own}
        return Message(
            queue=queue, body=self.body, headers=headers, type="dead_letter", receipt=self.receipt
        )


def describe(error: BaseException) -> str:
    """The error in one line of at most 500 characters, fit to be shown."""
    return shown(" ".join(f"{type(error).__name__}: {error}".split()), _MAX_REASON)


def _carried(headers: Mapping[Any, Any]) -> dict[str, Any]:
    """The headers that a message came with, as far as all of them together fit into one AMQP
    frame; a value that pika cannot write goes as text.
    """
    carried: dict[str, Any] = {}
    ours = ("op", "version", "ordinal", "schema", "committed_ms", "foreign")
    for key, value in sorted(headers.items(), key=lambda item: item[0] not in ours):
        if len(carried) == _MAX_CARRIED:
            break
        if not isinstance(key, str) or key.startswith("x-") or len(_utf8(key)) > _MAX_KEY:
            continue
        plain = value is None or isinstance(value, bool)
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            plain = True
        kept = value if plain else _as_text(value)
        if kept is value or len(_utf8(kept)) <= _MAX_REASON:
            carried[_utf8(key).decode()] = kept
    return carried


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return _utf8(value).decode()
    try:
        return _utf8(repr(value)).decode()[:_MAX_REASON]
    except ValueError:  # an integer of thousands of digits
        return type(value).__name__


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
