"""A search returns these: a chunk, and its place and surroundings in its document."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """One stored chunk that answers a query."""

    score: float
    """The higher, the better. Of a hybrid search the fused one: 1 where both lists have the hit
    first. Of a dense search `dense`, of a sparse one `sparse`."""
    type: str
    """Document type: the MongoDB collection."""
    entry_id: str
    """Which document, as a string."""
    author_id: str | None
    """Author of the document, or owner of the repository."""
    platform: str | None
    """Where it was published; repositories have none."""
    link: str | None
    """Where a reader finds it."""
    name: str | None
    """Name of the repository; other types have none."""
    path: str | None
    """File in the repository, or field of the content."""
    content: str
    """Text of the chunk."""
    id: str
    """The chunk's point."""
    dense: float | None = None
    """Cosine similarity to the query, 1 at most; None where the hit was found by words only."""
    sparse: float | None = None
    """BM25 of the query's terms; None where the hit was found by meaning only."""
    context: str | None = None
    """Where it stands: the headings above it, or file, class and function around it."""
    published_at: str | None = None
    """When the document was published, as it says itself: RFC 3339, in UTC."""
    updated_at: str | None = None
    """When it was changed, in the same way."""
    language: str | None = None
    """Of the document, as it says itself, in small letters."""
    tags: tuple[str, ...] = ()
    """Of the document."""


def metadata_of(hit: Hit) -> dict[str, Any]:
    """The fields of a hit that have a value, but its text and its id: for other libraries."""
    fields = asdict(hit)
    return {
        name: value
        for name, value in fields.items()
        if value not in (None, ()) and name not in ("content", "id")
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk stands in its document."""

    position: int
    """From 0."""
    total: int
    """Chunks of the document."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk of the same document as a hit."""

    position: int
    """Its place, from 0."""
    path: str | None
    """File in the repository, or field of the content: it may be another than the hit's."""
    content: str
    """Text of the chunk."""


@dataclass(frozen=True, slots=True)
class Context:
    """The place of a hit and the chunks around it, in the order of the document."""

    place: Place
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]
