"""Qdrant's gRPC services over the collections of a folder.

The calls are those of flows, readers and `qdrant_client` on named vectors; any other is answered
with UNIMPLEMENTED. Statuses and words are those of a Qdrant server.
"""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models as q
from qdrant_client.conversions.conversion import GrpcToRest

from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.conversions import (
    description_of,
    done,
    points_of,
    query_of,
    retrieved,
    scored,
    vectors_of,
    wanted_of,
    wire_id,
)
from connectors.qdrant.embedded.description import DESCRIPTION, Layout
from connectors.qdrant.embedded.engine import UnsupportedError
from connectors.qdrant.embedded.guard import Denied

_LONGEST_NAME: Final = 255


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
                shutil.rmtree(one, ignore_errors=True)  # half made, or half removed

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
        if any(params.multivector_config for params in vectors.values()):
            raise UnsupportedError("multivectors")
        sparse = (
            GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
            if request.HasField("sparse_vectors_config")
            else {}
        )
        name = request.collection_name
        folder_name = quote(name, safe="").replace(".", "%2E")
        if not 0 < len(folder_name.encode()) <= _LONGEST_NAME:
            raise Denied(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"collection_name: Validation error: not from 1 to {_LONGEST_NAME} characters",
            )
        with self._lock:
            if name in self._collections:
                raise Denied(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            folder = self._folder / folder_name
            self._collections[name] = Collection.create(folder, Layout(vectors, sparse))
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: Any) -> Any:
        """Points by id, or a collection: one name in both services, told apart by the request."""
        collection = self.named(request.collection_name)
        if isinstance(request, wire.GetCollectionInfoRequest):
            return wire.GetCollectionInfoResponse(result=description_of(collection))
        ids = [GrpcToRest.convert_point_id(id_) for id_ in request.ids]
        found = collection.retrieve(ids, *wanted_of(request))
        return wire.GetResponse(result=[retrieved(record) for record in found])

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
        return done()

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        """An index of a field of the payload."""
        type_ = wire.FieldType.Name(request.field_type).removeprefix("FieldType")
        self.named(request.collection_name).index(request.field_name, type_)
        return done()

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        """Forget an index."""
        self.named(request.collection_name).unindex(request.field_name)
        return done()

    def Upsert(self, request: Any, context: Any) -> Any:
        """Whole points."""
        _check_unconditional(request)
        self.named(request.collection_name).upsert(points_of(request.points))
        return done()

    def UpdateVectors(self, request: Any, context: Any) -> Any:
        """Vectors of points."""
        _check_unconditional(request)
        self.named(request.collection_name).update_vectors(vectors_of(request.points))
        return done()

    def CreateVectorName(self, request: Any, context: Any) -> Any:
        """The name of a sparse vector, for a collection that has points."""
        if request.WhichOneof("vector_config") != "sparse_config":
            raise UnsupportedError("a dense vector that is added to a collection")
        modifier = GrpcToRest.convert_modifier(request.sparse_config.modifier)
        params = q.SparseVectorParams(modifier=modifier)
        self.named(request.collection_name).add_sparse(request.vector_name, params)
        return done()

    def DeleteVectorName(self, request: Any, context: Any) -> Any:
        """Forget a vector of all points, and its name."""
        self.named(request.collection_name).remove_vectors(request.vector_name)
        return done()

    def SetPayload(self, request: Any, context: Any) -> Any:
        """Fields of payloads."""
        self._payload("set_payload", self.named(request.collection_name), request)
        return done()

    def OverwritePayload(self, request: Any, context: Any) -> Any:
        """Whole payloads."""
        self._payload("overwrite_payload", self.named(request.collection_name), request)
        return done()

    def DeletePayload(self, request: Any, context: Any) -> Any:
        """Remove fields of payloads."""
        collection = self.named(request.collection_name)
        self._delete_payload(collection, request)
        return done()

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        """Several changes, in their order."""
        collection = self.named(request.collection_name)
        for operation in request.operations:
            self._operate(collection, operation)
        return wire.UpdateBatchResponse(result=[done().result for _ in request.operations])

    def Scroll(self, request: Any, context: Any) -> Any:
        """A page of points in the order of their ids."""
        if request.HasField("order_by"):
            raise UnsupportedError("an order of a scroll")
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        collection, limit = self.named(request.collection_name), request.limit or 10
        only = self.filter_of(collection, request)
        found, after = collection.scroll(offset, limit, only, *wanted_of(request))
        response = wire.ScrollResponse(result=[retrieved(record) for record in found])
        if after is not None:
            response.next_page_offset.CopyFrom(wire_id(after))
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
            wire.FacetHit(value=_facet_value(value), count=count) for value, count in counts.items()
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
        change: Any = getattr(operation, kind) if kind else None
        if kind == "upsert":
            _check_unconditional(change)
            collection.upsert(points_of(change.points))
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
        queries = [query_of(request) for request in requests]
        return [[scored(point) for point in found] for found in collection.query(queries)]


def _check_unconditional(request: Any) -> None:
    fields = request.DESCRIPTOR.fields_by_name
    if any(name in fields and request.HasField(name) for name in ("update_filter", "update_mode")):
        raise UnsupportedError("a conditional update")


def _facet_value(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return wire.FacetValue(integer_value=value)
    return wire.FacetValue(string_value=str(value))
