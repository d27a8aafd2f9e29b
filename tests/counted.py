"""A client of Qdrant that counts what it writes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from qdrant_client import QdrantClient
from qdrant_client import models as q


class CountedWrites:
    """A client that counts the points that it upserts, updates and deletes.

    :raises AttributeError: by any other way to write
    """

    _READS: Final = {
        *("close", "collection_exists", "count", "create_collection", "create_payload_index"),
        *("facet", "get_collection", "get_collections", "query_points", "retrieve", "scroll"),
        *("delete_payload_index", "init_options"),
    }

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self.points: Counter[str] = Counter()
        """By collection and kind of write."""

    def __getattr__(self, name: str) -> Any:
        if name in self._READS:
            return getattr(self._client, name)
        raise AttributeError(f"{name} is not counted")

    def upsert(self, collection: str, points: Sequence[q.PointStruct], **options: Any) -> Any:
        """Count, and write."""
        self.points[f"{collection} upserted"] += len(points)
        return self._client.upsert(collection, points, **options)

    def delete(self, collection: str, points: q.PointIdsList, **options: Any) -> Any:
        """Count, and delete."""
        self.points[f"{collection} deleted"] += len(points.points)
        return self._client.delete(collection, points, **options)

    def batch_update_points(self, collection: str, updates: Sequence[Any], **options: Any) -> Any:
        """Count, and update."""
        for update in updates:
            self.points[f"{collection} updated"] += len(update.set_payload.points)
        return self._client.batch_update_points(collection, updates, **options)
