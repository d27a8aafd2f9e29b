"""Qdrant's gRPC services over the collections of a folder.

The calls are those of flows, readers and `qdrant_client` on named vectors; any other is answered
with UNIMPLEMENTED. Statuses and words are those of a Qdrant server.
"""

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from connectors.qdrant.embedded.collection import Collection, DiskFullError
from connectors.qdrant.embedded.description import DESCRIPTION, Layout
from connectors.qdrant.embedded.engine import EngineError, Point, UnsupportedError

_OF_THE_DISK: Final = re.compile(r"(?i)no space left|input/output|os error|i/o error")


class Denied(Exception):
    """An answer other than OK."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """How a server answers an error."""
    if isinstance(error, Denied):
        return error.code, str(error)
    if isinstance(error, UnsupportedError):
        return grpc.StatusCode.UNIMPLEMENTED, f"the embedded store does not have {error}"
    if isinstance(error, DiskFullError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
    if isinstance(error, EngineError) and "No point with id" in str(error):
        return grpc.StatusCode.NOT_FOUND, f"Not found: {error}"
    if isinstance(error, EngineError) and _OF_THE_DISK.search(str(error)):
        return grpc.StatusCode.INTERNAL, f"Service internal error: {error}"
    if isinstance(error, EngineError):
        return grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}"
    return grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"


class Services(wire.PointsServicer, wire.CollectionsServicer):
    """The services. Thread-safe.

    :param folder: holds a folder for each collection; created if it is missing
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._collections: dict[str, Collection] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for one in sorted(folder.iterdir()):
            if (one / DESCRIPTION).exists():
                self._collections[unquote(one.name)] = Collection(one)
            elif one.is_dir():
                shutil.rmtree(one)  # half made, or half removed

    @property
    def collections(self) -> list[Collection]:
        """All collections of this moment."""
        return list(self._collections.values())

    def close(self) -> None:
        """Close every collection."""
        for collection in self.collections:
            collection.close()

    def CollectionExists(self, request: Any, context: Any) -> Any:
        """Whether there is a collection."""
        exists = request.collection_name in self._collections
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    def List(self, request: Any, context: Any) -> Any:
        """The names of all collections."""
        names = [wire.CollectionDescription(name=name) for name in sorted(self._collections)]
        return wire.ListCollectionsResponse(collections=names)

    def Create(self, request: Any, context: Any) -> Any:
        """A collection with named vectors, or without any."""
        vectors = (
            GrpcToRest.convert_vectors_config(request.vectors_config)
            if request.HasField("vectors_config")
            else {}
        )
        if not isinstance(vectors, dict):
            raise UnsupportedError("a vector without a name")
        sparse = (
            GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            if request.HasField("sparse_vectors_config")
            else {}
        )
        name = request.collection_name
        with self._lock:
            if name in self._collections:
                raise Denied(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            folder = self._folder / quote(name, safe="").replace(".", "%2E")
            self._collections[name] = Collection.create(folder, Layout(vectors, sparse))
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: Any) -> Any:
        """Points by id, or a collection: one name in both services, told apart by the request."""
        collection = self.named(request.collection_name)
        if isinstance(request, wire.GetCollectionInfoRequest):
            return wire.GetCollectionInfoResponse(result=_described(collection))
        ids = [GrpcToRest.convert_point_id(id_) for id_ in request.ids]
        found = collection.retrieve(ids, *_wanted(request))
        return wire.GetResponse(result=[_retrieved(record) for record in found])

    def Delete(self, request: Any, context: Any) -> Any:
        """Points by id or filter, or a collection."""
        if isinstance(request, wire.DeleteCollection):
            with self._lock:
                collection = self._collections.pop(request.collection_name, None)
                if collection is not None:
                    collection.remove()
            return wire.CollectionOperationResponse(result=collection is not None)
        collection = self.named(request.collection_name)
        self._delete(collection, request.points)
        return _done()

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        """An index of a field of the payload."""
        type_ = wire.FieldType.Name(request.field_type).removeprefix("FieldType")
        self.named(request.collection_name).index(request.field_name, type_)
        return _done()

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        """Forget an index."""
        self.named(request.collection_name).unindex(request.field_name)
        return _done()

    def Upsert(self, request: Any, context: Any) -> Any:
        """Whole points."""
        self.named(request.collection_name).upsert(_points(request.points))
        return _done()

    def SetPayload(self, request: Any, context: Any) -> Any:
        """Fields of payloads."""
        self._payload("set_payload", self.named(request.collection_name), request)
        return _done()

    def OverwritePayload(self, request: Any, context: Any) -> Any:
        """Whole payloads."""
        self._payload("overwrite_payload", self.named(request.collection_name), request)
        return _done()

    def DeletePayload(self, request: Any, context: Any) -> Any:
        """Remove fields of payloads."""
        collection = self.named(request.collection_name)
        self._delete_payload(collection, request)
        return _done()

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        """Several changes, in their order."""
        collection = self.named(request.collection_name)
        for operation in request.operations:
            self._operate(collection, operation)
        return wire.UpdateBatchResponse(result=[_done().result for _ in request.operations])

    def Scroll(self, request: Any, context: Any) -> Any:
        """A page of points in the order of their ids."""
        if request.HasField("order_by"):
            raise UnsupportedError("an order of a scroll")
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        collection, limit = self.named(request.collection_name), request.limit or 10
        only = self.filter_of(collection, request)
        found, after = collection.scroll(offset, limit, only, *_wanted(request))
        response = wire.ScrollResponse(result=[_retrieved(record) for record in found])
        if after is not None:
            response.next_page_offset.CopyFrom(_id(after))
        return response

    def Count(self, request: Any, context: Any) -> Any:
        """How many points a filter lets through."""
        collection = self.named(request.collection_name)
        count = collection.count(self.filter_of(collection, request))
        return wire.CountResponse(result=wire.CountResult(count=count))

    def Facet(self, request: Any, context: Any) -> Any:
        """How many points have each value of an indexed field."""
        collection = self.named(request.collection_name)
        only = self.filter_of(collection, request)
        counts = collection.facet(request.key, request.limit or 10, only)
        hits = [
            wire.FacetHit(value=wire.FacetValue(string_value=str(value)), count=count)
            for value, count in counts.items()
        ]
        return wire.FacetResponse(hits=hits)

    def Query(self, request: Any, context: Any) -> Any:
        """The best points for one query."""
        [found] = self._query(request.collection_name, [request])
        return wire.QueryResponse(result=found)

    def QueryBatch(self, request: Any, context: Any) -> Any:
        """The best points for several queries."""
        found = self._query(request.collection_name, request.query_points)
        return wire.QueryBatchResponse(result=[wire.BatchResult(result=some) for some in found])

    def named(self, name: str) -> Collection:
        """The collection of a name.

        :raises Denied: there is none
        """
        try:
            return self._collections[name]
        except KeyError:
            reason = f"Collection `{name}` doesn't exist!"
            raise Denied(grpc.StatusCode.NOT_FOUND, f"Not found: {reason}") from None

    def filter_of(self, collection: Collection, request: Any) -> q.Filter | None:
        """The filter of a request."""
        return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None

    def selected(self, collection: Collection, selector: Any) -> list[Any]:
        """The ids that a selector of points names."""
        if selector.WhichOneof("points_selector_one_of") == "points":
            return [GrpcToRest.convert_point_id(id_) for id_ in selector.points.ids]
        only = self.filter_of(collection, selector)
        return collection.matching(only) if only is not None else []

    def _delete(self, collection: Collection, selector: Any) -> None:
        with collection.locked():
            collection.delete(self.selected(collection, selector))

    def _delete_payload(self, collection: Collection, request: Any) -> None:
        with collection.locked():
            ids = self.selected(collection, request.points_selector)
            collection.delete_payload(ids, list(request.keys))

    def _payload(self, kind: str, collection: Collection, request: Any) -> None:
        payload = GrpcToRest.convert_payload(request.payload)
        key = request.key if request.HasField("key") else None
        with collection.locked():
            ids = self.selected(collection, request.points_selector)
            getattr(collection, kind)(ids, payload, key)

    def _operate(self, collection: Collection, operation: Any) -> None:
        kind = operation.WhichOneof("operation")
        change = getattr(operation, kind)
        if kind == "upsert":
            collection.upsert(_points(change.points))
        elif kind == "delete_points":
            self._delete(collection, change.points)
        elif kind in ("set_payload", "overwrite_payload"):
            self._payload(kind, collection, change)
        elif kind == "delete_payload":
            self._delete_payload(collection, change)
        else:
            raise UnsupportedError(f"the operation {kind} in a batch")

    def _query(self, name: str, requests: Sequence[Any]) -> list[list[Any]]:
        collection = self.named(name)
        for request in requests:
            self.filter_of(collection, request)
        queries = [_query_request(request) for request in requests]
        return [[_scored(point) for point in found] for found in collection.query(queries)]


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Asks each call for the key, and gives each error its status.

    :param api_key: empty: for those who give none
    :param called: told of each call that had the key
    """

    def __init__(self, api_key: str, called: Callable[[], None] = lambda: None) -> None:
        self._api_key = api_key
        self._called = called

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call, behind the check."""
        handler = continuation(details)
        if handler is None:
            return None
        given = dict(details.invocation_metadata).get("api-key", "")

        def call(request: Any, context: Any) -> Any:
            if not compare_digest(given.encode(), self._api_key.encode()):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            self._called()
            try:
                return handler.unary_unary(request, context)
            except NotImplementedError:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{details.method} is not served")
            except Exception as error:  # noqa: BLE001 (each error is an answer)
                context.abort(*status_of(error))

        return grpc.unary_unary_rpc_method_handler(
            call, handler.request_deserializer, handler.response_serializer
        )


def _described(collection: Collection) -> Any:
    info = wire.CollectionInfo(status=wire.CollectionStatus.Green)
    info.optimizer_status.ok = True
    info.points_count = collection.size
    info.config.params.vectors_config.CopyFrom(
        RestToGrpc.convert_vectors_config(dict(collection.layout.vectors))
    )
    if collection.layout.sparse:
        info.config.params.sparse_vectors_config.CopyFrom(
            RestToGrpc.convert_sparse_vector_config(dict(collection.layout.sparse))
        )
    for field, type_ in collection.indexes().items():
        kind = wire.PayloadSchemaType.Value(type_.capitalize())
        info.payload_schema[field].data_type = kind
    # The client refuses a description without them. These are the defaults of Qdrant.
    info.config.hnsw_config.MergeFrom(
        wire.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000)
    )
    info.config.optimizer_config.MergeFrom(
        wire.OptimizersConfigDiff(
            deleted_threshold=0.2,
            vacuum_min_vector_number=1000,
            default_segment_number=0,
            flush_interval_sec=5,
        )
    )
    info.config.wal_config.MergeFrom(wire.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0))
    return info


def _points(points: Sequence[Any]) -> list[Point]:
    return [
        Point(
            GrpcToRest.convert_point_id(point.id),
            dict(_vectors_of(point)),
            GrpcToRest.convert_payload(point.payload),
        )
        for point in points
    ]


def _vectors_of(point: Any) -> Iterator[tuple[str, Any]]:
    kind = point.vectors.WhichOneof("vectors_options")
    if kind is None:
        return
    if kind != "vectors":
        raise UnsupportedError("a vector without a name")
    for name, vector in point.vectors.vectors.vectors.items():
        plain = vector.dense.data if vector.HasField("dense") else ()
        yield name, list(plain) if plain else GrpcToRest.convert_vector(vector)


def _wanted(request: Any) -> tuple[Any, Any]:
    """Which fields of the payload, and which vectors."""
    payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
    if isinstance(payload, list):
        payload = q.PayloadSelectorInclude(include=payload)
    if not request.HasField("with_vectors"):
        return payload, False
    return payload, GrpcToRest.convert_with_vectors_selector(request.with_vectors)


def _query_request(request: Any) -> q.QueryRequest:
    if request.HasField("lookup_from"):
        raise UnsupportedError("a lookup in another collection")
    payload, vectors = _wanted(request)
    return q.QueryRequest(
        prefetch=[GrpcToRest.convert_prefetch_query(one) for one in request.prefetch],
        query=GrpcToRest.convert_query(request.query) if request.HasField("query") else None,
        using=request.using if request.HasField("using") else None,
        filter=GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None,
        params=GrpcToRest.convert_search_params(request.params)
        if request.HasField("params")
        else None,
        score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
        limit=request.limit if request.HasField("limit") else 10,
        offset=request.offset if request.HasField("offset") else 0,
        with_payload=payload,
        with_vector=vectors,
    )


def _id(id_: Any) -> Any:
    return RestToGrpc.convert_extended_point_id(id_ if isinstance(id_, int) else str(id_))


def _vectors_output(point: Any) -> Any:
    named = {
        name: row
        if isinstance(row, list)
        else q.SparseVector(indices=row.indices, values=row.values)
        for name, row in (point.vector or {}).items()
    }
    return RestToGrpc.convert_vector_struct_output(named) if named else None


def _retrieved(record: Any) -> Any:
    return wire.RetrievedPoint(
        id=_id(record.id),
        payload=RestToGrpc.convert_payload(record.payload or {}),
        vectors=_vectors_output(record),
    )


def _scored(point: Any) -> Any:
    return wire.ScoredPoint(
        id=_id(point.id),
        score=point.score,
        version=point.version,
        payload=RestToGrpc.convert_payload(point.payload or {}),
        vectors=_vectors_output(point),
    )


def _done() -> Any:
    result = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
    return wire.PointsOperationResponse(result=result)
