"""Qdrant: clients for reading and writing, the store of the features flow, scans of its points."""

from connectors.qdrant.answers import (
    STORE_ERRORS,
    is_missing_collection,
    is_missing_vector,
    one_line,
)
from connectors.qdrant.client import QdrantSettings, open_client, open_patiently, open_reader
from connectors.qdrant.models_used import count_by_model
from connectors.qdrant.names import (
    SPARSE_NAME,
    TOMBSTONES,
    UNPREFIXED,
    VECTOR_NAME,
    Collections,
    cleaned,
    vectors_of,
)
from connectors.qdrant.owner import Owner, check_owner
from connectors.qdrant.scan import ScannedPoint, estimated_points, points_of, scan_points
from connectors.qdrant.scroll import scroll
from connectors.qdrant.statement import Statement, read_places, searched_collections
from connectors.qdrant.store import QdrantStore
from connectors.qdrant.tombstones import copy_tombstones
from connectors.qdrant.unsearched import Unsearched, count_unsearched

__all__ = [
    "SPARSE_NAME",
    "STORE_ERRORS",
    "TOMBSTONES",
    "UNPREFIXED",
    "VECTOR_NAME",
    "Collections",
    "Owner",
    "QdrantSettings",
    "QdrantStore",
    "ScannedPoint",
    "Statement",
    "Unsearched",
    "check_owner",
    "cleaned",
    "copy_tombstones",
    "count_by_model",
    "count_unsearched",
    "estimated_points",
    "is_missing_collection",
    "is_missing_vector",
    "one_line",
    "open_client",
    "open_patiently",
    "open_reader",
    "points_of",
    "read_places",
    "scan_points",
    "scroll",
    "searched_collections",
    "vectors_of",
]
