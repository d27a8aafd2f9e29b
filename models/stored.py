"""What is stored for a document, and what is to be written for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from models.chunks import Chunk
from models.version import NEVER, Version


class Key(NamedTuple):
    """Names one document across all systems."""

    type: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of a document before a change is applied to it."""

    version: Version = NEVER
    """Newest version seen, of the live record, its tombstone or a drop of its collection."""
    record: Mapping[str, Any] | None = None
    """Payload of the record, without the cleaned text; None where the document is not live."""
    chunks: Mapping[str, Mapping[str, Any]] | None = None
    """Payload of each stored chunk by id, without its text; None where they were not listed."""


@dataclass(frozen=True, slots=True)
class WritePlan:
    """All writes for one document, in the order in which they are carried out."""

    key: Key
    version: Version
    upserts: tuple[Chunk, ...] = ()
    """Chunks that the store lacks: to be embedded and written first."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the payload of each chunk repeats of the document."""
    model: str = ""
    retagged: tuple[str, ...] = ()
    """Ids of kept chunks whose metadata changed: payload only, no embedding."""
    moved: Mapping[str, int] = field(default_factory=dict)
    """New position by id of kept chunks that moved: payload only, no embedding."""
    deletes: tuple[str, ...] = ()
    """Ids of chunks that are gone."""
    record: Mapping[str, Any] | None = None
    """Payload of the record, written last; None removes the document behind a tombstone."""
    refresh_only: bool = False
    """Nothing but the version changed."""
    kept: int = 0
    """Chunks that stay without being embedded again."""
