"""The points that a fresh sync stores of a document: the one truth about them.

The write plan is the difference between this and what is stored, the store writes these payloads,
and reconciliation, the tests' oracle and the demo compare with them. So a field that is added here,
or to `Document.metadata()`, is written, refreshed, and missed where it is not there.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from models.chunks import hash_of_chunk
from models.documents import Document
from models.prepared import Upsert
from models.stored import SUSPECT

MAY_DIFFER: Final = frozenset({"version", "ordinal", "indexed_at"})
"""Payload fields that tell when something was written, not what: the store adds them."""

TEXTS: Final = {"content": "chunk_hash", "cleaned_content": "text_hash"}
"""Payload fields of texts, and those that hold their hashes, by which they are compared."""

COUNTED: Final = ("machine_files", "chunks_left_out")
"""Payload fields of records that count what is stored and not searched; none of it, no field."""

_OF_RECORDS: Final = frozenset(
    {"cleaned_content", "content_hash", "text_hash", "chunk_ids", *COUNTED, SUSPECT}
)
_OF_CHUNKS: Final = frozenset({"path", "content", "context", "chunk_hash"})
"""The part of a chunk that its record does not share. Its id is made of it."""

Payload = Mapping[str, Any]
"""Fields of a point. Null means the same as absent, since Qdrant takes a null for a removal."""


class FreshPoints(NamedTuple):
    """All points of a document."""

    record: Payload
    chunks: Mapping[str, Payload]
    """Payload by id, in the order of the document."""


def fresh_points(change: Upsert, model: str) -> FreshPoints:
    """The points that a fresh sync stores of a document, without vectors and what `MAY_DIFFER`.

    :param model: name of the embedder
    """
    document, chunks = change.document, change.chunks
    shared = {**document.metadata(), "model": model}
    text = cleaned_content(document)
    record = {
        **shared,
        "cleaned_content": text,
        "content_hash": content_hash(document),
        "text_hash": text_hash(text),
        "chunk_ids": [chunk.id for chunk in chunks],
        "machine_files": change.machine_files or None,
        "chunks_left_out": change.chunks_left_out or None,
    }
    return FreshPoints(
        record,
        {
            chunk.id: {
                **shared,
                "path": chunk.path,
                "content": chunk.content,
                "context": chunk.context or None,
                "chunk_hash": chunk.chunk_hash,
            }
            for chunk in chunks
        },
    )


def embedded_text(chunk: Payload) -> str:
    """The text of which both vectors of a chunk are made.

    The context comes last: of a text that is too long for the model, the end is not read.

    :param chunk: as it is stored, or is to be
    """
    return "\n".join(str(chunk[name]) for name in ("content", "context") if chunk.get(name))


def chunk_by_record(record: Payload, chunk: Payload) -> Payload:
    """The payload with which a chunk must be stored, going by the record that names it.

    :param record: as it is stored
    :param chunk: what a fresh sync stores under the same id
    """
    shared = {name: value for name, value in record.items() if name not in _OF_RECORDS}
    return shared | {name: chunk.get(name) for name in _OF_CHUNKS}


def without_text(payload: Payload, unread: Collection[str] = ()) -> dict[str, Any]:
    """A stored payload without its text; and without the text's hash, if it is of another.

    :param unread: fields of texts that the payload lacks because they were not asked for
    """
    hashes = {
        hash_: None
        for text, hash_ in TEXTS.items()
        if text not in unread and hash_ in payload and _hash_of(text, payload) != payload[hash_]
    }
    return {name: value for name, value in payload.items() if name not in TEXTS} | hashes


def _hash_of(text: str, payload: Payload) -> str:
    whole = str(payload.get(text, ""))
    if text == "content":
        return hash_of_chunk(whole, str(payload.get("context") or ""))
    return text_hash(whole)


def difference(want: Payload, have: Payload, but: Collection[str] = MAY_DIFFER) -> dict[str, Any]:
    """The fields to set so that `have` becomes `want`; a null where only `have` has it.

    :param but: fields that are not compared
    """
    return {
        name: want.get(name)
        for name in sorted({*want, *have}.difference(but))
        if want.get(name) != have.get(name)
    }


def cleaned_content(document: Document) -> str:
    """The text of a record: all sections, verbatim ones below their path."""
    return "\n\n".join(
        f"{section.path}\n{section.text}" if section.verbatim else section.text
        for section in document.sections
    )


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return sha256(text.encode()).hexdigest()


def content_hash(document: Document) -> str:
    """SHA-256, in hex, over paths and texts of all sections."""
    digest = sha256()
    for section in document.sections:
        for part in (section.path.encode(), section.text.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
