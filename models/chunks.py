"""Chunks: what is embedded, and how it is named."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from models.identity import chunk_id


@dataclass(frozen=True, slots=True)
class Chunk:
    """A slice of one section of a document."""

    id: str
    """Point id: a function of document, path, text and occurrence, never of its place."""
    path: str
    """Path of the section."""
    content: str
    chunk_hash: str
    """SHA-256 of the content, in hex."""


def name_chunks(type_: str, entry_id: str, pieces: Iterable[tuple[str, str]]) -> tuple[Chunk, ...]:
    """Give the pieces of a document their ids.

    :param pieces: (path, content) in reading order
    """
    seen: Counter[tuple[str, str]] = Counter()
    chunks = []
    for path, content in pieces:
        digest = sha256(content.encode()).hexdigest()
        occurrence = seen[path, digest]
        seen[path, digest] += 1
        point = chunk_id(type_, entry_id, path, digest, occurrence)
        chunks.append(Chunk(point, path, content, digest))
    return tuple(chunks)
