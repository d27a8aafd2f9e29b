"""Between Qdrant's gRPC messages and what collections take and give."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from qdrant_client import grpc as wire
from qdrant_client import models as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, value_to_json

from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.engine import Point, SparseRow, UnsupportedError
from connectors.qdrant.embedded.packed import packed_numbers


def description_of(collection: Collection) -> Any:
    """What a server says of a collection."""
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


def points_of(points: Sequence[Any]) -> list[Point]:
    """The points of an upsert."""
    return [
        Point(
            GrpcToRest.convert_point_id(point.id),
            dict(_vectors(point)),
            _payload(point.payload),
        )
        for point in points
    ]


def _payload(fields: Any) -> dict[str, Any]:
    # A shortcut for texts, which most fields are.
    return {name: value.string_value or value_to_json(value) for name, value in fields.items()}


def vectors_of(points: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Ids and vectors of an update of vectors."""
    return [(GrpcToRest.convert_point_id(point.id), dict(_vectors(point))) for point in points]


def _vectors(point: Any) -> Iterator[tuple[str, Any]]:
    kind = point.vectors.WhichOneof("vectors_options")
    if kind is None:
        return
    if kind != "vectors":
        raise UnsupportedError("a vector without a name")
    for name, vector in point.vectors.vectors.vectors.items():
        numbers = packed_numbers(vector.dense) if vector.HasField("dense") else None
        if numbers:
            yield name, array("f", numbers)
        elif vector.HasField("sparse"):  # without a look at each number, like the dense ones
            yield name, _sparse(vector.sparse)
        else:
            yield name, GrpcToRest.convert_vector(vector)


def _sparse(vector: Any) -> SparseRow:
    return SparseRow(list(vector.indices), list(vector.values))


def wanted_of(request: Any) -> tuple[Any, Any]:
    """Which fields of the payload, and which vectors."""
    payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
    if isinstance(payload, list):
        payload = q.PayloadSelectorInclude(include=payload)
    if not request.HasField("with_vectors"):
        return payload, False
    return payload, GrpcToRest.convert_with_vectors_selector(request.with_vectors)


def query_of(request: Any) -> q.QueryRequest:
    """A query."""
    _check_lookups(request)
    payload, vectors = wanted_of(request)
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


def _check_lookups(query: Any) -> None:
    if query.HasField("lookup_from"):
        raise UnsupportedError("a lookup in another collection")
    for prefetch in query.prefetch:
        _check_lookups(prefetch)


def wire_id(id_: Any) -> Any:
    """An id of a point."""
    return RestToGrpc.convert_extended_point_id(id_ if isinstance(id_, int) else str(id_))


def _vectors_output(point: Any) -> Any:
    named = {
        name: row
        if isinstance(row, list)
        else q.SparseVector(indices=row.indices, values=row.values)
        for name, row in (point.vector or {}).items()
    }
    return RestToGrpc.convert_vector_struct_output(named) if named else None


def retrieved(record: Any) -> Any:
    """A point that was read."""
    return wire.RetrievedPoint(
        id=wire_id(record.id),
        payload=RestToGrpc.convert_payload(record.payload or {}),
        vectors=_vectors_output(record),
    )


def scored(point: Any) -> Any:
    """A point that was found."""
    return wire.ScoredPoint(
        id=wire_id(point.id),
        score=point.score,
        version=point.version,
        payload=RestToGrpc.convert_payload(point.payload or {}),
        vectors=_vectors_output(point),
    )


def done() -> Any:
    """The answer to a change that was carried out."""
    result = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
    return wire.PointsOperationResponse(result=result)
