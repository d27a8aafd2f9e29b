"""Chunks: what is embedded, and how it is named."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from models.identity import chunk_id


@dataclass(frozen=True, slots=True)
class Chunk:
    """A slice of one section of a document."""

    id: str
    """Point id: a function of document, path, hash and occurrence, never of its place."""
    path: str
    """Path of the section."""
    content: str
    context: str
    """Where it stands, see `flows.text.context`; embedded with the content."""
    chunk_hash: str
    """Of what is embedded, see `hash_of_chunk`."""


class Piece(NamedTuple):
    """What a document is cut into."""

    path: str
    """Path of the section."""
    content: str
    context: str = ""


def hash_of_chunk(content: str, context: str) -> str:
    """SHA-256, in hex, of the content; with a context, of the content's SHA-256 and the context."""
    digest = sha256(content.encode())
    return sha256(digest.digest() + context.encode()).hexdigest() if context else digest.hexdigest()


def name_chunks(type_: str, entry_id: str, pieces: Iterable[Piece]) -> tuple[Chunk, ...]:
    """Give the pieces of a document their ids.

    :param pieces: in reading order
    """
    seen: Counter[tuple[str, str]] = Counter()
    chunks = []
    for path, content, context in pieces:
        digest = hash_of_chunk(content, context)
        occurrence = seen[path, digest]
        seen[path, digest] += 1
        point = chunk_id(type_, entry_id, path, digest, occurrence)
        chunks.append(Chunk(point, path, content, context, digest))
    return tuple(chunks)
