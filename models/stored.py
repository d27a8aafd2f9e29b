"""The stored state of a document before a change is applied to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from models.version import NEVER, Version

SUSPECT: Final = "suspect"
"""A field that no fresh sync stores: it is true in a record that may not say how its chunks are,
since the store refused a change midway. The next change lists them, and writes a new record."""


class Key(NamedTuple):
    """Names one document across all systems."""

    type: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The points that the store has of a document."""

    version: Version = NEVER
    """Newest version seen, of the live record, its tombstone or a drop of its collection."""
    record: Mapping[str, Any] | None = None
    """Payload of the record, without the cleaned text; None where the document is not live."""
    chunks: Mapping[str, Mapping[str, Any]] | None = None
    """Payload of each stored chunk by id, without its text; None where they were not listed."""

    @property
    def suspect(self) -> bool:
        """Whether the record may not say how its chunks are: to be listed."""
        return bool(self.record and self.record.get(SUSPECT))

    @property
    def named(self) -> tuple[str, ...]:
        """Ids of the chunks that the record names."""
        return tuple((self.record or {}).get("chunk_ids", ()))

    @property
    def present(self) -> tuple[str, ...]:
        """Ids of the chunks that are there: as listed, else as named."""
        return self.named if self.chunks is None else tuple(self.chunks)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Ids of listed chunks that no record names: of a change that was only half written."""
        named = set(self.named)
        return tuple(id_ for id_ in self.chunks or () if id_ not in named)
