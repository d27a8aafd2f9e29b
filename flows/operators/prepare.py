"""The pure steps between a message and the store: decode, clean, chunk.

Each takes and returns one item and raises on a poison document; `attempt` turns that into a
dead letter.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from flows.text.context import contexts
from flows.text.notebook import notebook_text
from models import DOCUMENT_TYPES, ChangeEvent, DeadLetter, Delivery, Section
from models.chunks import Piece, name_chunks
from models.machine import is_machine_made
from models.metrics import CHUNKS_LEFT_OUT, MACHINE_FILES
from models.prepared import (
    Change,
    Cleaned,
    CleanedChange,
    Decoded,
    DecodedChange,
    Drop,
    Prepared,
    Removal,
    Upsert,
)

MAX_CHUNKS: Final = 100_000
"""Of a document; the largest message, of 16 MiB, has so many if they are of 170 bytes."""

log = logging.getLogger("flows")


def decode(delivery: Delivery) -> DecodedChange:
    """Read a message.

    :raises ValueError: not our contract, or of a type that is not registered
    """
    event = ChangeEvent.from_delivery(delivery)
    if event.type not in DOCUMENT_TYPES:
        known = ", ".join(sorted(DOCUMENT_TYPES))
        raise ValueError(f"document type {event.type!r:.80} is not one of {known}")
    if event.op == "drop":
        return Drop(delivery, event)
    if event.op == "delete" or _is_gone(event):
        return Removal(delivery, event)
    return Decoded(delivery, event)


def _is_gone(event: ChangeEvent) -> bool:
    """A repair without a document: it is not in MongoDB, and every chunk of it is to go."""
    return event.op == "repair" and event.body.keys() <= {"type", "entry_id"}


Cleaner = Callable[[Sequence[str]], Sequence[str]]
"""Cleans the texts of one document."""


def clean_with(cleaner: Cleaner) -> Callable[[DecodedChange], CleanedChange]:
    """The clean step: parse the document and clean its prose; verbatim sections stay as they are,
    but notebooks become their cells.

    It raises a `ValueError` for no content, or content of a form that no document has.

    :param cleaner: cleans the texts of one document
    """

    def step(change: DecodedChange) -> CleanedChange:
        if not isinstance(change, Decoded):
            return change
        event = change.event
        document = DOCUMENT_TYPES[event.type].parse(event.entry_id, event.body)
        prose = iter(cleaner([s.text for s in document.sections if not s.verbatim]))
        sections = (
            _as_it_is(s) if s.verbatim else Section(s.path, next(prose)) for s in document.sections
        )
        cleaned = replace(document, sections=tuple(s for s in sections if s.text.strip()))
        return Cleaned(change.delivery, event, cleaned)

    return step


def _as_it_is(section: Section) -> Section:
    if not section.path.endswith(".ipynb"):
        return section
    return replace(section, text=notebook_text(section.text))


clean = clean_with(clean_texts)
"""The clean step, in this process."""


def chunk(
    chunker: Callable[[], Splitter], most: int = MAX_CHUNKS
) -> Callable[[CleanedChange], Prepared]:
    """The chunk step with the chunker of a model. Files that are for machines have no chunks.

    :param chunker: called when the first document arrives, so that building a dataflow loads
        nothing
    :param most: chunks of a document; of one that has more, the first ones are kept
    """

    def step(change: CleanedChange) -> Prepared:
        if not isinstance(change, Cleaned):
            return change
        document = change.document
        sections = [s for s in document.sections if not _is_for_machines(s)]
        machine_files = len(document.sections) - len(sections)
        MACHINE_FILES.inc(machine_files)
        cuts = chunker().split_all([(section.text, section.code) for section in sections])
        pieces = (
            Piece(section.path, section.text[span.start : span.end], context)
            for section, spans in zip(sections, cuts, strict=True)
            for span, context in zip(
                spans,
                contexts(section.text, spans, document.above(section), section.code),
                strict=True,
            )
        )
        chunks = name_chunks(document.type, document.entry_id, pieces)
        left_out = max(0, len(chunks) - most)
        if left_out:
            CHUNKS_LEFT_OUT.inc(left_out)
            log.warning(
                "%s %r: only the first %d of %d chunks are searched, by MAX_CHUNKS_PER_DOCUMENT",
                *change.key, most, len(chunks),
            )  # fmt: skip
        return Upsert(
            change.delivery, change.event, document, chunks[:most], machine_files, left_out
        )

    return step


def _is_for_machines(section: Section) -> bool:
    return section.code and is_machine_made(section.path, section.text)


def undecodable(delivery: Delivery, error: Exception) -> DeadLetter:
    """The dead letter of a message whose document is not known."""
    return DeadLetter.of(delivery, "decode", error)


def dead_at(stage: str) -> Callable[[Change, Exception], DeadLetter]:
    """Makes dead letters for a step that knows the document."""

    def dead(change: Change, error: Exception) -> DeadLetter:
        event = change.event
        return replace(
            DeadLetter.of(change.delivery, stage, error),
            type=event.type,
            entry_id=event.entry_id,
            version=event.version,
            foreign=event.foreign,
        )

    return dead


def retract(change: Change) -> Removal | None:
    """The removal that goes on in the place of a change that was dead-lettered.

    A fresh sync of the same MongoDB state would leave no points of this document, so those of its
    older versions go as well. A message of another producer proves nothing about MongoDB's state
    and takes nothing away.
    """
    return None if change.event.foreign else Removal(change.delivery, change.event)
