"""Every document of the registered collections, as it is now."""

from collections.abc import Iterable, Iterator
from typing import Any

from bson import Timestamp
from pymongo import MongoClient

from connectors.mongodb.changes import rows, version_of
from connectors.mongodb.server import CODEC
from models import MAX_ORDINAL, CapturedChange


def scan_documents(
    client: "MongoClient[dict[str, Any]]",
    database: str,
    collections: Iterable[str],
    time: Timestamp,
) -> Iterator[CapturedChange]:
    """Every document of the registered collections, as repairs of the version `time`."""
    source = client.get_database(database, codec_options=CODEC)
    for name in collections:
        for row in rows(source[name]):
            yield CapturedChange(
                "repair", name, version_of(time), row["_id"], row, ordinal=MAX_ORDINAL
            )
