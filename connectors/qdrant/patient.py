"""Requests to a store that wait as long as it is away, and fit into what it takes."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.ahead import one_ahead
from connectors.patience import Patience
from connectors.qdrant.answers import (
    STORE_ERRORS,
    explain,
    is_away,
    is_divisible,
    is_missing_collection,
    one_line,
    translated,
)
from connectors.qdrant.requests import MAX_POINTS, bounded, size_of_point
from connectors.qdrant.scroll import Fields, scroll
from connectors.qdrant.wire import in_lists, point_message
from models.errors import PlaceGoneError, PointsGoneError

T = TypeVar("T")
X = TypeVar("X")


class Ask(Protocol):
    """How a request is made: once, or until it is answered."""

    def __call__(self, request: Callable[[QdrantClient], T], /) -> T:
        """The answer to a request."""
        ...


class PatientClient:
    """Requests of a store, each repeated until it is answered. Thread-safe.

    Writes return when they are applied.

    :param client: of a server, of the embedded store or of one in memory
    :param removed: asked where a collection is missing: whether that is meant
    :raises ContentRefusedError: by each method, for what no server takes
    :raises PointsGoneError: by each method, for updates of points that do not exist
    :raises PlaceGoneError: by each method, where collections were removed
    """

    def __init__(self, client: QdrantClient, removed: Callable[[], bool] = lambda: False) -> None:
        self._client = client
        self._removed = removed
        self._is_grpc = client.init_options.get("prefer_grpc", False)
        self._patience = Patience("Qdrant", is_away, explain=explain)
        # A caller holds it, too, where a write goes by what was read.
        self.lock = threading.RLock()

    def call(self, request: Callable[[QdrantClient], T]) -> T:
        """The answer to a request."""

        def once() -> T:
            try:
                return self.attempt(request)
            except (ValueError, *STORE_ERRORS) as error:
                if is_missing_collection(error) and self._removed():
                    raise PlaceGoneError(one_line(error)) from error
                raise

        try:
            return self._patience.call(once)
        except (*STORE_ERRORS, UnicodeError) as error:
            raise translated(error) from error
        except KeyError as error:  # how qdrant-client's store in memory says it
            raise PointsGoneError(str(error)) from error

    def attempt(self, request: Callable[[QdrantClient], T]) -> T:
        """The answer to a request that is made once, whatever comes of it."""
        with self.lock:
            return request(self._client)

    def close(self) -> None:
        """Close the client."""
        with self.lock:
            self._client.close()

    def payloads(
        self, collection: str, ids: Sequence[str], fields: Any = True
    ) -> dict[str, Mapping[str, Any]]:
        """Payloads by id, of the points that there are."""
        return {
            str(record.id): record.payload or {}
            for start in range(0, len(ids), 256)
            for records in self._in_parts(
                ids[start : start + 256],
                lambda client, part: client.retrieve(collection, part, with_payload=fields),
            )
            for record in records
        }

    def scroll(
        self, collection: str, only: q.Filter | None, fields: Fields
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and payload of every point that a filter lets through."""

        def call(request: Callable[[], T]) -> T:
            return self.call(lambda _: request())

        for point in scroll(self._client, collection, only, fields=fields, call=call):
            yield str(point.id), dict(point.payload or {})

    def upsert(
        self, collection: str, points: Iterable[q.PointStruct], *, many: bool = False
    ) -> None:
        """Write whole points.

        :param many: more than one request's; each is made while the one before is under way
        """
        requests = (self._made(some) for some in bounded(points, size_of_point))
        for request in one_ahead(requests) if many else requests:
            self._in_parts(request, lambda client, part: client.upsert(collection, part, wait=True))

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete points, as far as they are there."""
        for start in range(0, len(ids), 1000):
            self._in_parts(
                ids[start : start + 1000],
                lambda client, part: client.delete(
                    collection, q.PointIdsList(points=list(part)), wait=True
                ),
            )

    def set_payloads(self, collection: str, updates: Sequence[q.SetPayloadOperation]) -> None:
        """Carry out updates of payloads, in their order."""
        for start in range(0, len(updates), MAX_POINTS):
            self._in_parts(
                updates[start : start + MAX_POINTS],
                lambda client, part: client.batch_update_points(collection, part, wait=True),
            )

    def _made(self, points: list[q.PointStruct]) -> list[Any]:
        return [(point_message if self._is_grpc else in_lists)(point) for point in points]

    def _in_parts(
        self, items: Sequence[X], request: Callable[[QdrantClient, list[X]], T]
    ) -> list[T]:
        """The answers to one request, or to several where the server takes fewer items in one."""

        def once(client: QdrantClient) -> T | None:
            try:
                return request(client, list(items))
            except STORE_ERRORS as error:
                if len(items) == 1 or not is_divisible(error):
                    raise
                return None

        answer = self.call(once)
        if answer is not None:
            return [answer]
        half = len(items) // 2
        return [*self._in_parts(items[:half], request), *self._in_parts(items[half:], request)]
