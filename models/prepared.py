"""A change on its way through the features flow."""

from dataclasses import dataclass

from models.chunks import Chunk
from models.documents import Document
from models.events import ChangeEvent, Delivery


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event with what the steps have made of it so far."""

    delivery: Delivery
    event: ChangeEvent
    document: Document | None = None
    """Parsed and cleaned; None for a delete, a drop, and where preparing it failed."""
    chunks: tuple[Chunk, ...] = ()
    failed: bool = False
    """The message went to the dead letters: what older versions left in the store must go."""
