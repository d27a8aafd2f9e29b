"""Qdrant: clients for reading and writing, the store of the features flow, scans of its points."""

from connectors.qdrant.client import STORE_ERRORS, QdrantSettings, one_line, open_client
from connectors.qdrant.names import (
    TOMBSTONES,
    UNPREFIXED,
    VECTOR_NAME,
    Collections,
    cleaned,
    vectors_of,
)
from connectors.qdrant.reader import open_reader
from connectors.qdrant.scan import scan_points
from connectors.qdrant.scroll import scroll
from connectors.qdrant.store import QdrantStore

__all__ = [
    "STORE_ERRORS",
    "TOMBSTONES",
    "UNPREFIXED",
    "VECTOR_NAME",
    "Collections",
    "QdrantSettings",
    "QdrantStore",
    "cleaned",
    "one_line",
    "open_client",
    "open_reader",
    "scan_points",
    "scroll",
    "vectors_of",
]
