"""Bounded sources over what MongoDB and Qdrant hold now."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar

from bson import Timestamp
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from pymongo import MongoClient
from qdrant_client import QdrantClient

from connectors.access import is_away
from connectors.changes import rows, version_of
from connectors.errors import Patience
from connectors.qdrant import cleaned, vectors_of
from connectors.replica_set import CODEC
from models import Change
from models.points import Key

X = TypeVar("X")


class ScanSource(FixedPartitionedSource[X, None]):
    """Everything that an iterable yields, once.

    Parallelism: none. Delivery: each item once. After a resume: everything again.

    :param scan: begins a scan; it may block, since a bounded flow has nothing else to do
    """

    def __init__(self, scan: Callable[[], Iterable[X]], batch_size: int = 200) -> None:
        self._scan = scan
        self._batch_size = batch_size

    def list_parts(self) -> list[str]:
        """One scan."""
        return ["scan"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[X, None]:
        """Begin the scan."""
        return _ScanPartition(iter(self._scan()), self._batch_size)


class _ScanPartition(StatefulSourcePartition[X, None]):
    def __init__(self, items: Iterator[X], batch_size: int) -> None:
        self._items = items
        self._batch_size = batch_size

    def next_batch(self) -> list[X]:
        batch = list(islice(self._items, self._batch_size))
        if not batch:
            raise StopIteration
        return batch

    def snapshot(self) -> None:
        return None


def scan_documents(
    client: "MongoClient[dict[str, Any]]",
    database: str,
    collections: Iterable[str],
    time: Timestamp,
) -> Iterator[Change]:
    """Every document of the registered collections, as repairs of the version `time`."""
    source = client.get_database(database, codec_options=CODEC)
    for name in collections:
        for row in rows(source[name]):
            yield Change("repair", name, version_of(time), row["_id"], row)


def scan_points(
    client: QdrantClient, types: Iterable[str]
) -> Iterator[tuple[Key, str, str, dict[str, Any]]]:
    """Every point of the store: (document, `record` or `chunk`, id, payload with `text_hash`
    in the place of its text). A server that goes away meanwhile is waited for.
    """
    patience = Patience("Qdrant", is_away)
    for type_ in types:
        for kind, name in (("record", cleaned(type_)), ("chunk", vectors_of(type_))):
            if patience.call(partial(client.collection_exists, name)):
                for id_, payload in _points(client, name, patience):
                    entry_id = str(payload.get("entry_id"))
                    yield Key(type_, entry_id), kind, id_, payload


def _points(
    client: QdrantClient, collection: str, patience: Patience
) -> Iterator[tuple[str, dict[str, Any]]]:
    offset: Any = None
    while True:
        page = partial(client.scroll, collection, limit=500, offset=offset)
        records, offset = patience.call(page)
        for record in records:
            payload = dict(record.payload or {})
            text = payload.pop("content", None) or payload.pop("cleaned_content", None) or ""
            payload["text_hash"] = sha256(str(text).encode()).hexdigest()
            yield str(record.id), payload
        if offset is None:
            return
