"""A change on its way through the features flow: a type for each stage.

    decode → Decoded → clean → Cleaned → chunk → Upsert
           ↘ Removal ─────────────────────────→ Removal
           ↘ Drop ────────────────────────────→ Drop

Nothing stands for a removal but a `Removal`: a document that has not been cleaned yet cannot be
taken for one that is gone.
"""

from dataclasses import dataclass

from models.chunks import Chunk
from models.documents import Document
from models.events import ChangeEvent, Delivery
from models.stored import Key


@dataclass(frozen=True, slots=True)
class Change:
    """The facts that every stage knows of a change."""

    delivery: Delivery
    event: ChangeEvent

    @property
    def key(self) -> Key:
        """Which document it is of; for a drop, the collection."""
        return Key(self.event.type, self.event.entry_id)


@dataclass(frozen=True, slots=True)
class Decoded(Change):
    """A change that brings a document, which is to be parsed and cleaned."""


@dataclass(frozen=True, slots=True)
class Cleaned(Change):
    """A change whose document is to be cut into chunks."""

    document: Document


@dataclass(frozen=True, slots=True)
class Upsert(Change):
    """A document to be stored."""

    document: Document
    chunks: tuple[Chunk, ...]
    """All its chunks, in their order."""
    machine_files: int = 0
    """Files that have no chunks, since they are for machines."""
    chunks_left_out: int = 0
    """Chunks that it would have, beyond the most of a document."""


@dataclass(frozen=True, slots=True)
class Removal(Change):
    """A document to be removed: it was deleted, is not in MongoDB, or cannot be prepared."""


@dataclass(frozen=True, slots=True)
class Drop(Change):
    """A whole collection to be removed, as far as it is not newer."""


DecodedChange = Decoded | Removal | Drop
CleanedChange = Cleaned | Removal | Drop
Prepared = Upsert | Removal | Drop
"""A change that the index step applies."""
