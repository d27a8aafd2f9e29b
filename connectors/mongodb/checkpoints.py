"""Where the position of a pipeline is stored: in MongoDB itself (`MONGO_CHECKPOINT_DATABASE`)."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from bson.codec_options import CodecOptions
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from connectors.mongodb.lease import Lease
from connectors.mongodb.positions import Position

_WRITE_TIMEOUT_MS = 10_000


def pipeline_name(database: str, virtual_host: str, queue: str) -> str:
    """The `_id` of the checkpoint of a pipeline: two that differ in any of its parts have two."""
    parts = (quote(part, safe="") for part in (database, virtual_host, queue))
    return "/".join(("cdc", *parts))


def checkpoints_of(
    client: "MongoClient[Any]", database: str, codec: "CodecOptions[Any]"
) -> "Collection[Any]":
    """The collection of checkpoints; what is written there outlives an election."""
    return client[database].get_collection(
        "checkpoints",
        codec_options=codec,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern("majority", wtimeout=_WRITE_TIMEOUT_MS),
    )


class Checkpoints:
    """One document that holds a position, and the lease of the one capture that may move it.

    :param collection: where it is kept
    :param lease: of the same document
    :param fingerprint: of everything that must not change between two runs
    """

    def __init__(self, collection: "Collection[Any]", lease: Lease, fingerprint: str) -> None:
        self._collection = collection
        self._lease = lease
        self._fingerprint = fingerprint

    def load(self, collections: Sequence[str]) -> tuple[Position | None, bool]:
        """The stored position, and whether its fingerprint is still ours.

        :raises ConnectorFailedError: another capture owns the pipeline
        """
        document = self._collection.find_one(self._lease.mine)
        self._lease.check(document is not None)
        if document is None or "phase" not in document:
            return None, True
        fits = document.get("fingerprint") == self._fingerprint
        return (Position.from_document(document, collections) if fits else None), fits

    def store(self, position: Position) -> None:
        """Replace the stored position.

        :raises ConnectorFailedError: another capture owns the pipeline
        """
        fields = {
            **position.to_document(),
            "fingerprint": self._fingerprint,
            "updated_at": datetime.now(timezone.utc),
        }
        self._lease.check(
            self._collection.update_one(self._lease.mine, {"$set": fields}).matched_count
        )
