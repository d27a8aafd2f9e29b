"""Frozen values: documents, change events, chunks, what is stored, dead letters."""

from models.chunks import Chunk
from models.dead_letters import DeadLetter
from models.documents import DOCUMENT_TYPES, Article, Document, Post, Repository, Section
from models.events import CapturedChange, ChangeEvent, Delivery, Message, Receipt
from models.identity import entry_id_of, record_id
from models.version import MAX_ORDINAL, Version

__all__ = [
    "DOCUMENT_TYPES",
    "MAX_ORDINAL",
    "Article",
    "CapturedChange",
    "ChangeEvent",
    "Chunk",
    "DeadLetter",
    "Delivery",
    "Document",
    "Message",
    "Post",
    "Receipt",
    "Repository",
    "Section",
    "Version",
    "entry_id_of",
    "record_id",
]
