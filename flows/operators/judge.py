"""The pure part of reconciliation: what a document should look like, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from flows.operators.plan import METADATA_FIELDS, cleaned_content, content_hash
from models import CapturedChange
from models.prepared import Prepared
from models.stored import Key


@dataclass(frozen=True, slots=True)
class Expected:
    """What a fresh sync would store of a document."""

    mongo_id: tuple[Any]
    """The `_id`, boxed, since it may be null."""
    content_hash: str
    text_hash: str
    chunks: Mapping[str, str]
    """Hash of each chunk by id, in their order."""
    metadata: Mapping[str, Any]


@dataclass(slots=True)
class Sides:
    """Both sides of one document, gathered."""

    expected: Expected | None = None
    """None where MongoDB has no such document, or one that goes to the dead letters."""
    record: Mapping[str, Any] | None = None
    chunks: dict[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a document."""

    kind: str
    """missing, stale, orphaned document or orphaned chunks."""
    key: Key
    mongo_id: tuple[Any] | None = None
    """The boxed `_id` of the document to be repaired with; None where MongoDB has none."""


Side = Expected | tuple[str, str, Mapping[str, Any]]


def expected(prepared: Prepared, change: CapturedChange) -> Expected:
    """What is to be stored of a prepared document."""
    assert prepared.document is not None
    return Expected(
        mongo_id=(change.id,),
        content_hash=content_hash(prepared.document),
        text_hash=text_hash(cleaned_content(prepared.document)),
        chunks={chunk.id: chunk.chunk_hash for chunk in prepared.chunks},
        metadata=prepared.document.metadata(),
    )


def gather(sides: Sides, side: Side) -> Sides:
    """Add one side's item to what is known of a document."""
    if isinstance(side, Expected):
        sides.expected = side
    else:
        kind, id_, payload = side
        if kind == "record":
            sides.record = payload
        else:
            sides.chunks[id_] = payload
    return sides


def judge(key: Key, sides: Sides, model: str) -> Finding | None:
    """What is wrong with a document, if anything.

    :param model: name of the embedder, which every chunk must carry
    """
    want = sides.expected
    if want is None:
        kind = "orphaned document" if sides.record else "orphaned chunks"
        return Finding(kind, key) if sides.record or sides.chunks else None
    if sides.record is None:
        return Finding("missing", key, want.mongo_id)
    if not _record_is_right(sides.record, want, model) or not _chunks_are_right(sides, want, model):
        return Finding("stale", key, want.mongo_id)
    if sides.chunks.keys() - want.chunks.keys():
        return Finding("orphaned chunks", key, want.mongo_id)
    return None


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return sha256(text.encode()).hexdigest()


def _record_is_right(record: Mapping[str, Any], want: Expected, model: str) -> bool:
    return (
        record.get("content_hash") == want.content_hash
        and record.get("text_hash") == want.text_hash
        and list(record.get("chunk_ids", ())) == list(want.chunks)
        and record.get("model") == model
        and all(record.get(name) == want.metadata[name] for name in METADATA_FIELDS)
    )


def _chunks_are_right(sides: Sides, want: Expected, model: str) -> bool:
    for position, (id_, digest) in enumerate(want.chunks.items()):
        chunk = sides.chunks.get(id_)
        if chunk is None or chunk.get("position") != position or chunk.get("model") != model:
            return False
        if chunk.get("chunk_hash") != digest or chunk.get("text_hash") != digest:
            return False
        if any(chunk.get(name) != want.metadata[name] for name in METADATA_FIELDS):
            return False
    return True
