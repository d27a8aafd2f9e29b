"""Qdrant's own storage engine behind Qdrant's own gRPC services, for tests of the server paths.

No package registry has the server. It has its engine, as Qdrant Edge (qdrant-edge-py: segments,
write-ahead log, payload indexes, filters, refusals), and qdrant-client has the service definitions
and the conversions. Ours is the little between them: collections as folders, an error of
the engine as the status that the server gives it, and strict mode as Qdrant Cloud has it: a filter
on a field without an index is refused. `update_collection(strict_mode_config=...)` sets limits.
Calls that flows and readers do not make are answered with UNIMPLEMENTED.

    python -m tests.qdrant_server --data FOLDER --port PORT
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models as q
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from connectors.qdrant import QdrantSettings
from ops.local_server import HOST, LocalServer

MAX_REQUEST_BYTES = 32 * 2**20
_ENGINE_NEEDS_A_VECTOR = "none"


def engine() -> ModuleType:
    """Qdrant Edge; imported late, since only the server's own process needs it."""
    import qdrant_edge

    return qdrant_edge


class Denied(Exception):
    """An answer other than OK."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Collection:
    """A shard of the engine, in a folder; created there or loaded from there."""

    def __init__(self, folder: Path, sizes: Mapping[str, int] | None = None) -> None:
        self._edge = edge = engine()
        self._folder = folder
        self.strict = wire.StrictModeConfig()
        description = folder / "vectors.json"
        if sizes is not None:
            shutil.rmtree(folder, ignore_errors=True)  # half made by a server that was killed
            folder.mkdir(parents=True)
            vectors = {
                name: edge.EdgeVectorParams(size=size, distance=edge.Distance.Cosine)
                for name, size in sizes.items()
            }
            sparse = {} if vectors else {_ENGINE_NEEDS_A_VECTOR: edge.EdgeSparseVectorParams()}
            config = edge.EdgeConfig(vectors=vectors, sparse_vectors=sparse)
            self._shard = edge.EdgeShard.create(str(folder / "shard"), config)
            # Last and at once: a collection without it was not yet confirmed to anybody.
            begun = description.with_suffix(".begun")
            begun.write_text(json.dumps(dict(sizes)))
            begun.replace(description)
        else:
            self._shard = edge.EdgeShard.load(str(folder / "shard"))
        self.sizes: dict[str, int] = json.loads(description.read_text())
        self._lock = threading.RLock()

    def update(self, operation: q.UpdateOperation) -> None:
        """Apply one operation; it is in the write-ahead log when this returns."""
        op = self._edge.UpdateOperation
        if isinstance(operation, q.UpsertOperation):
            points = operation.upsert.points  # type: ignore[union-attr]
            made = op.upsert_points([self._point(point) for point in points])
        elif isinstance(operation, q.DeleteOperation):
            if isinstance(operation.delete, q.FilterSelector):
                made = op.delete_points_by_filter(self._filter(operation.delete.filter))
            else:
                made = op.delete_points(list(operation.delete.points))
        elif isinstance(operation, q.SetPayloadOperation) and operation.set_payload.points:
            some = operation.set_payload
            made = op.set_payload(list(some.points or ()), some.payload)
        else:
            raise Denied(grpc.StatusCode.UNIMPLEMENTED, type(operation).__name__)
        self._do(made)

    def index(self, field: str, schema: str) -> None:
        """Index a field of the payload."""
        type_ = getattr(self._edge.PayloadSchemaType, schema.capitalize())
        self._do(self._edge.UpdateOperation.create_field_index(field, type_))

    def drop_index(self, field: str) -> None:
        """Forget the index of a field."""
        self._do(self._edge.UpdateOperation.delete_field_index(field))

    def indexes(self) -> dict[str, str]:
        """The type of each indexed field."""
        with self._lock:
            schema = self._shard.info().payload_schema
        return {field: str(index.data_type).split(".")[1] for field, index in schema.items()}

    def facet(self, key: str, limit: int, only: q.Filter | None) -> dict[str, int]:
        """How many points have each value of a field."""
        request = self._edge.FacetRequest(key, limit, True, self._filter(only))
        try:
            with self._lock:
                return {hit.value: hit.count for hit in self._shard.facet(request).hits}
        except Exception as error:
            raise Denied(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}") from error

    def retrieve(self, ids: Sequence[Any], payload: Any, vectors: Any) -> list[Any]:
        """Points by their ids."""
        with self._lock:
            return list(self._shard.retrieve(list(ids), self._selector(payload), vectors))

    def scroll(
        self, offset: Any, limit: int, only: q.Filter | None, payload: Any, vectors: Any
    ) -> tuple[list[Any], Any]:
        """A page of points, and where the next one begins."""
        request = self._edge.ScrollRequest(
            offset=offset, limit=limit, filter=self._filter(only),
            with_payload=self._selector(payload), with_vector=vectors,
        )  # fmt: skip
        with self._lock:
            return self._shard.scroll(request)  # type: ignore[no-any-return]

    def count(self, only: q.Filter | None) -> int:
        """How many points a filter lets through."""
        with self._lock:
            return int(self._shard.count(self._edge.CountRequest(True, self._filter(only))))

    def nearest(
        self, vector: list[float], using: str, only: q.Filter | None, limit: int, payload: Any
    ) -> list[Any]:
        """Points by similarity."""
        request = self._edge.QueryRequest(
            limit=limit, query=self._edge.Query.Nearest(vector, using=using),
            filter=self._filter(only), with_payload=self._selector(payload),
        )  # fmt: skip
        with self._lock:
            return list(self._shard.query(request))

    def close(self) -> None:
        """Flush and release."""
        with self._lock:
            self._shard.close()

    def remove(self) -> None:
        """Delete it for good."""
        self.close()
        shutil.rmtree(self._folder)

    def check_filter(self, only: q.Filter) -> None:
        """Refuse a filter on a field without an index, as strict mode does; remember the others."""
        indexed = self.indexes()
        for condition in (*_listed(only.must), *_listed(only.must_not)):
            if condition.key not in indexed:
                raise Denied(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f'Bad request: Index required but not found for "{condition.key}" of one of '
                    "the following types: [keyword]. Help: Create an index for this key or use a "
                    "different filter.",
                )
            (self._folder / "filtered").mkdir(exist_ok=True)
            (self._folder / "filtered" / condition.key).touch()

    def _do(self, operation: Any) -> None:
        try:
            with self._lock:
                self._shard.update(operation)
        except Exception as error:
            missing = "No point with id" in str(error)
            if missing:
                raise Denied(grpc.StatusCode.NOT_FOUND, f"Not found: {error}") from error
            raise Denied(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}") from error

    def _point(self, point: q.PointStruct) -> Any:
        return self._edge.Point(point.id, point.vector or {}, point.payload or {})

    def _selector(self, wanted: Any) -> Any:
        kinds = self._edge.PayloadSelector
        if isinstance(wanted, q.PayloadSelectorExclude):
            return kinds.Exclude(wanted.exclude)
        if isinstance(wanted, q.PayloadSelectorInclude):
            return kinds.Include(wanted.include)
        return wanted

    def _filter(self, only: q.Filter | None) -> Any:
        if only is None:
            return None
        self.check_filter(only)
        return self._edge.Filter(
            must=[self._condition(one) for one in _listed(only.must)],
            must_not=[self._condition(one) for one in _listed(only.must_not)],
        )

    def _condition(self, one: Any) -> Any:
        if isinstance(one, q.FieldCondition):
            if isinstance(one.match, q.MatchValue):
                match = self._edge.MatchValue(one.match.value)
                return self._edge.FieldCondition(one.key, match=match)
            if isinstance(one.match, q.MatchAny):
                match = self._edge.MatchAny(list(one.match.any))
                return self._edge.FieldCondition(one.key, match=match)
            if isinstance(one.range, q.Range):
                bounds = self._edge.RangeFloat(
                    gte=one.range.gte, gt=one.range.gt, lte=one.range.lte, lt=one.range.lt
                )
                return self._edge.FieldCondition(one.key, range=bounds)
        raise Denied(grpc.StatusCode.UNIMPLEMENTED, f"condition {one}")


class Services(wire.PointsServicer, wire.CollectionsServicer):
    """The calls of the gRPC services, on collections in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._collections = {
            description.parent.name: Collection(description.parent)
            for description in folder.glob("*/vectors.json")
        }

    def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = request.collection_name in self._collections
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    def Create(self, request: Any, context: Any) -> Any:
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        sizes = {name: params.size for name, params in (vectors or {}).items()}
        with self._lock:
            name = request.collection_name
            if name in self._collections:
                raise Denied(grpc.StatusCode.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            self._collections[name] = Collection(self._folder / name, sizes)
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: Any) -> Any:
        # One name in both services; told apart by the kind of request.
        collection = self._named(request.collection_name)
        if isinstance(request, wire.GetCollectionInfoRequest):
            params = {
                name: q.VectorParams(size=size, distance=q.Distance.COSINE)
                for name, size in collection.sizes.items()
            }
            info = wire.CollectionInfo(status=wire.CollectionStatus.Green)
            info.config.params.vectors_config.CopyFrom(RestToGrpc.convert_vectors_config(params))
            info.optimizer_status.ok = True
            for field, type_ in collection.indexes().items():
                info.payload_schema[field].data_type = wire.PayloadSchemaType.Value(type_)
            # The client refuses a description without them; nobody reads them.
            info.config.hnsw_config.MergeFrom(
                wire.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000)
            )
            info.config.optimizer_config.MergeFrom(
                wire.OptimizersConfigDiff(
                    deleted_threshold=0.2, vacuum_min_vector_number=1000,
                    default_segment_number=0, flush_interval_sec=5,
                )
            )  # fmt: skip
            info.config.wal_config.MergeFrom(
                wire.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0)
            )
            return wire.GetCollectionInfoResponse(result=info)
        ids = [GrpcToRest.convert_point_id(id_) for id_ in request.ids]
        payload, vectors = _wanted(request)
        found = collection.retrieve(ids, payload, vectors)
        return wire.GetResponse(result=[_retrieved(record) for record in found])

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        schema = wire.FieldType.Name(request.field_type).removeprefix("FieldType")
        self._named(request.collection_name).index(request.field_name, schema)
        return _done()

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        self._named(request.collection_name).drop_index(request.field_name)
        return _done()

    def Update(self, request: Any, context: Any) -> Any:
        self._named(request.collection_name).strict.CopyFrom(request.strict_mode_config)
        return wire.CollectionOperationResponse(result=True)

    def Upsert(self, request: Any, context: Any) -> Any:
        collection = self._named(request.collection_name)
        strict = collection.strict
        if strict.HasField("upsert_max_batchsize"):
            _within(len(request.points), strict.upsert_max_batchsize, "upsert limit")
        if (
            strict.HasField("max_points_count")
            and collection.count(None) >= strict.max_points_count
        ):
            limit = f"Max points count limit of {strict.max_points_count} reached!"
            raise Denied(grpc.StatusCode.INVALID_ARGUMENT, f"Bad request: {limit}")
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        collection.update(q.UpsertOperation(upsert=q.PointsList(points=points)))
        return _done()

    def Delete(self, request: Any, context: Any) -> Any:
        if isinstance(request, wire.DeleteCollection):  # one name in both services, too
            with self._lock:
                collection = self._collections.pop(request.collection_name, None)
                if collection is not None:
                    collection.remove()
            return wire.CollectionOperationResponse(result=collection is not None)
        selected = GrpcToRest.convert_points_selector(request.points)
        self._named(request.collection_name).update(q.DeleteOperation(delete=selected))
        return _done()

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        collection = self._named(request.collection_name)
        for operation in request.operations:
            collection.update(GrpcToRest.convert_points_update_operation(operation))
        results = [_done().result for _ in request.operations]
        return wire.UpdateBatchResponse(result=results)

    def Scroll(self, request: Any, context: Any) -> Any:
        payload, vectors = _wanted(request)
        collection = self._named(request.collection_name)
        if collection.strict.HasField("max_query_limit"):
            _within(request.limit, collection.strict.max_query_limit, "limit")
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        found, after = collection.scroll(
            offset, request.limit, _filter_of(request), payload, vectors
        )
        response = wire.ScrollResponse(result=[_retrieved(record) for record in found])
        if after is not None:
            response.next_page_offset.CopyFrom(_id(after))
        return response

    def Count(self, request: Any, context: Any) -> Any:
        count = self._named(request.collection_name).count(_filter_of(request))
        return wire.CountResponse(result=wire.CountResult(count=count))

    def Facet(self, request: Any, context: Any) -> Any:
        counts = self._named(request.collection_name).facet(
            request.key, request.limit, _filter_of(request)
        )
        hits = [
            wire.FacetHit(value=wire.FacetValue(string_value=value), count=count)
            for value, count in counts.items()
        ]
        return wire.FacetResponse(hits=hits)

    def Query(self, request: Any, context: Any) -> Any:
        vector = list(request.query.nearest.dense.data)
        payload, _ = _wanted(request)
        found = self._named(request.collection_name).nearest(
            vector, request.using, _filter_of(request), request.limit, payload
        )
        points = [
            wire.ScoredPoint(
                id=_id(point.id), score=point.score, version=point.version,
                payload=RestToGrpc.convert_payload(point.payload or {}),
            )
            for point in found
        ]  # fmt: skip
        return wire.QueryResponse(result=points)

    def close(self) -> None:
        """Close every collection."""
        for collection in self._collections.values():
            collection.close()

    def _named(self, name: str) -> Collection:
        try:
            return self._collections[name]
        except KeyError:
            reason = f"Collection `{name}` doesn't exist!"
            raise Denied(grpc.StatusCode.NOT_FOUND, reason) from None


def _within(value: int, limit: int, name: str) -> None:
    if value > limit:
        raise Denied(
            grpc.StatusCode.INVALID_ARGUMENT,
            f'Bad request: Limit exceeded {value} > {limit} for "{name}". Help: Reduce the '
            f'"{name}" parameter to or below {limit}.',
        )


def _listed(conditions: Any) -> Iterable[Any]:
    if conditions is None:
        return ()
    return conditions if isinstance(conditions, list) else (conditions,)


def _filter_of(request: Any) -> q.Filter | None:
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


def _wanted(request: Any) -> tuple[Any, Any]:
    payload = GrpcToRest.convert_with_payload_selector(request.with_payload)
    vectors = (
        GrpcToRest.convert_with_vectors_selector(request.with_vectors)
        if request.HasField("with_vectors")
        else False
    )
    return payload, vectors


def _id(id_: Any) -> Any:
    return RestToGrpc.convert_extended_point_id(id_ if isinstance(id_, int) else str(id_))


def _retrieved(record: Any) -> Any:
    point = wire.RetrievedPoint(
        id=_id(record.id), payload=RestToGrpc.convert_payload(record.payload or {})
    )
    dense = {name: row for name, row in (record.vector or {}).items() if isinstance(row, list)}
    if dense:
        point.vectors.CopyFrom(RestToGrpc.convert_vector_struct_output(dense))
    return point


def _done() -> Any:
    result = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
    return wire.PointsOperationResponse(result=result)


class _Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Checks the key, and gives each error its status."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        given = dict(details.invocation_metadata).get("api-key", "")

        def call(request: Any, context: Any) -> Any:
            if self._api_key and given != self._api_key:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            try:
                return handler.unary_unary(request, context)
            except Denied as error:
                context.abort(error.code, str(error))

        return grpc.unary_unary_rpc_method_handler(
            call, handler.request_deserializer, handler.response_serializer
        )


class QdrantServer(LocalServer):
    """The server as a process of its own, to be killed and restarted at will.

    :param api_key: asked for in every call
    :param certificate: PEM files of a certificate chain and its key; TLS only, then
    """

    name = "qdrant"

    def __init__(
        self, data_dir: Path, api_key: str = "", certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(data_dir)
        self._api_key = api_key
        self._certificate = certificate

    @property
    def settings(self) -> QdrantSettings:
        """Where it is."""
        scheme = "https" if self._certificate else "http"
        return QdrantSettings(url=f"{scheme}://{HOST}", grpc_port=self.port, api_key=self._api_key)

    def _launch(self) -> Any:
        root = Path(__file__).resolve().parent.parent
        command: list[str | Path] = [
            sys.executable, "-m", "tests.qdrant_server", "--data", self.data_dir / "data",
            "--port", str(self.port),
        ]  # fmt: skip
        if self._certificate:
            command += ["--certificate", *self._certificate]
        environment = {**os.environ, "PYTHONPATH": str(root), "API_KEY": self._api_key}
        return self._spawn(command, environment)

    def _serves(self) -> bool:
        return True


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.qdrant_server")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, nargs=2, help="chain and key, PEM")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    services = Services(options.data)
    server = grpc.server(
        ThreadPoolExecutor(8),
        interceptors=[_Guard(os.environ.get("API_KEY", ""))],
        options=[("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)],
    )
    wire.add_PointsServicer_to_server(services, server)
    wire.add_CollectionsServicer_to_server(services, server)
    address = f"{HOST}:{options.port}"
    if options.certificate:
        chain, key = (file.read_bytes() for file in options.certificate)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(address)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()
    services.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
