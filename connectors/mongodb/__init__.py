"""MongoDB: the change stream as a source, scans of what is there, a plain connection."""

from connectors.mongodb.changes import version_of
from connectors.mongodb.checkpoints import pipeline_name
from connectors.mongodb.collected import CollectedStore
from connectors.mongodb.database import MongoDatabaseConnector
from connectors.mongodb.scan import estimated_documents, find_again, findable, scan_documents
from connectors.mongodb.server import cluster_time, reason_of
from connectors.mongodb.source import MongoChangeStreamSource

__all__ = [
    "CollectedStore",
    "MongoChangeStreamSource",
    "MongoDatabaseConnector",
    "cluster_time",
    "estimated_documents",
    "find_again",
    "findable",
    "pipeline_name",
    "reason_of",
    "scan_documents",
    "version_of",
]
