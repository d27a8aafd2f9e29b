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
    """Point id: a function of document, path, text and occurrence, never of position."""
    path: str
    """Path of the section."""
    content: str
    chunk_hash: str
    """SHA-256 of the content, in hex."""
    position: int
    """Ordinal in the document, from 0."""
    start: int
    """Offset of the first character in the cleaned section."""
    end: int
    """Offset behind the last character in the cleaned section."""


def number_chunks(
    type_: str, entry_id: str, pieces: Iterable[tuple[str, str, int, int]]
) -> tuple[Chunk, ...]:
    """Give the pieces of a document their ids and positions.

    :param pieces: (path, content, start, end) in reading order
    """
    seen: Counter[tuple[str, str]] = Counter()
    chunks = []
    for position, (path, content, start, end) in enumerate(pieces):
        digest = sha256(content.encode()).hexdigest()
        occurrence = seen[path, digest]
        seen[path, digest] += 1
        point = chunk_id(type_, entry_id, path, digest, occurrence)
        chunks.append(Chunk(point, path, content, digest, position, start, end))
    return tuple(chunks)
