"""The pure part of reconciliation: what a document should look like, and what is wrong with it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from models import CapturedChange
from models.fresh import MAY_DIFFER, TEXTS, Payload, difference, fresh_points
from models.prepared import Prepared, Upsert
from models.stored import Key


@dataclass(frozen=True, slots=True)
class Expected:
    """The points that a fresh sync would store of a document."""

    mongo_id: tuple[Any]
    """The `_id`, boxed, since it may be null."""
    record: bytes
    """Digest of its payload."""
    chunks: Mapping[str, bytes]
    """Digest of each chunk's payload by id."""


@dataclass(slots=True)
class Sides:
    """Both sides of one document, gathered."""

    expected: Expected | None = None
    """None where MongoDB has no such document, or one that goes to the dead letters."""
    record: bytes | None = None
    chunks: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a document."""

    kind: str
    """missing, stale, orphaned document or orphaned chunks."""
    key: Key
    mongo_id: tuple[Any] | None = None
    """The boxed `_id` of the document to be repaired with; None where MongoDB has none."""


Side = Expected | tuple[str, str, Payload]
Expect = Callable[[CapturedChange], tuple[Key, Expected]]
"""Finds the points that a document should have; raises for one that cannot be used."""


def expected(prepared: Prepared, change: CapturedChange, model: str) -> Expected:
    """The points to be stored of a document.

    :param model: name of the embedder, which every chunk must carry
    :raises ValueError: a document of nothing but its `_id`, which reads as one that is gone
    """
    if not isinstance(prepared, Upsert):
        raise ValueError("the document lacks its content")
    fresh = fresh_points(prepared, model)
    return Expected(
        mongo_id=(change.id,),
        record=digest(fresh.record),
        chunks={id_: digest(payload) for id_, payload in fresh.chunks.items()},
    )


def gather(sides: Sides, side: Side) -> Sides:
    """Add one side's item to what is known of a document."""
    if isinstance(side, Expected):
        sides.expected = side
    else:
        kind, id_, payload = side
        if kind == "record":
            sides.record = digest(payload)
        else:
            sides.chunks[id_] = digest(payload)
    return sides


def judge(key: Key, sides: Sides) -> Finding | None:
    """The way in which a document is wrong, if it is."""
    want = sides.expected
    if want is None:
        kind = "orphaned document" if sides.record else "orphaned chunks"
        return Finding(kind, key) if sides.record or sides.chunks else None
    if sides.record is None:
        return Finding("missing", key, want.mongo_id)
    if sides.record != want.record or want.chunks.items() - sides.chunks.items():
        return Finding("stale", key, want.mongo_id)
    if sides.chunks.keys() - want.chunks.keys():
        return Finding("orphaned chunks", key, want.mongo_id)
    return None


def digest(payload: Payload) -> bytes:
    """Equal for payloads that say the same; the texts stand in it as their hashes."""
    said = difference(payload, {}, MAY_DIFFER | TEXTS.keys())
    return blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).digest()
