"""MongoDB: the change stream as a source, scans of what is there, a plain connection."""

from connectors.mongodb.changes import version_of
from connectors.mongodb.database import MongoDatabaseConnector
from connectors.mongodb.scan import scan_documents
from connectors.mongodb.server import CODEC, operation_time
from connectors.mongodb.source import MongoChangeStreamSource

__all__ = [
    "CODEC",
    "MongoChangeStreamSource",
    "MongoDatabaseConnector",
    "operation_time",
    "scan_documents",
    "version_of",
]
