"""Qdrant's storage engine, as qdrant-edge-py has it. Its API is beta: only this file knows it.

A shard keeps points in segments (vectors, payloads, payload indexes) and each change first in a
write-ahead log. What a kill -9 leaves is loaded again with everything that `Shard` has returned
from; what a loss of power leaves, with everything up to the last `sync` or `flush`.
"""

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import qdrant_edge as edge
from qdrant_client import models as q

_NO_VECTOR: Final = "none"
"""The engine wants a vector in each configuration; a collection of payloads gets this one."""

Selection = bool | q.PayloadSelectorInclude | q.PayloadSelectorExclude
"""Which fields of a payload are wanted."""


class EngineError(Exception):
    """The engine refuses an operation; its own words."""


class EngineFailedError(Exception):
    """The engine has failed where nothing was wrong with what it was asked; its own words."""


class UnsupportedError(Exception):
    """A request that this store does not carry out, and a Qdrant server does."""


class SparseRow(NamedTuple):
    """A sparse vector of a point."""

    indices: list[int]
    values: list[float]


class Point(NamedTuple):
    """A point of the store."""

    id: Any
    """int, or str of a UUID"""
    vectors: Mapping[str, Any]
    """Floats, or a `SparseRow`, by the name of the vector."""
    payload: Mapping[str, Any]


class Shard:
    """The points of one collection in a folder of their own. Not thread-safe.

    :raises EngineError: by each method, what the engine refuses
    :raises EngineFailedError: by each method, a panic
    """

    def __init__(self, shard: Any, folder: Path) -> None:
        self._shard = shard
        self._log = folder / "wal"

    @classmethod
    def create(
        cls,
        folder: Path,
        vectors: Mapping[str, q.VectorParams],
        sparse: Mapping[str, q.SparseVectorParams],
    ) -> "Shard":
        """A shard without points in a folder without files."""
        dense = {
            name: edge.EdgeVectorParams(
                size=params.size, distance=getattr(edge.Distance, params.distance.value)
            )
            for name, params in vectors.items()
        }
        weighted = {
            name: edge.EdgeSparseVectorParams(modifier=_modifier(params))
            for name, params in sparse.items()
        }
        if not dense and not weighted:
            weighted = {_NO_VECTOR: edge.EdgeSparseVectorParams()}
        config = edge.EdgeConfig(vectors=dense, sparse_vectors=weighted)
        return cls(_asked(edge.EdgeShard.create, str(folder), config), folder)

    @classmethod
    def load(cls, folder: Path) -> "Shard":
        """The shard in a folder, with what its write-ahead log still holds."""
        return cls(_asked(edge.EdgeShard.load, str(folder)), folder)

    def upsert(self, points: Iterable[Point]) -> None:
        """Write whole points."""
        made = [edge.Point(id_, _vectors(vectors), dict(load)) for id_, vectors, load in points]
        self._update(edge.UpdateOperation.upsert_points(made))

    def delete(self, ids: Sequence[Any]) -> None:
        """Delete points, as far as they are there."""
        self._update(edge.UpdateOperation.delete_points(list(ids)))

    def set_payload(self, ids: Sequence[Any], payload: Mapping[str, Any], key: str | None) -> None:
        """Set some fields of the payloads of points that are there, below `key` if given."""
        self._update(edge.UpdateOperation.set_payload(list(ids), dict(payload), key))

    def overwrite_payload(
        self, ids: Sequence[Any], payload: Mapping[str, Any], key: str | None
    ) -> None:
        """Replace the payloads of points."""
        self._update(edge.UpdateOperation.overwrite_payload(list(ids), dict(payload), key))

    def delete_payload(self, ids: Sequence[Any], keys: Sequence[str]) -> None:
        """Remove fields of the payloads of points."""
        self._update(edge.UpdateOperation.delete_payload(list(ids), list(keys)))

    def update_vectors(self, points: Iterable[tuple[Any, Mapping[str, Any]]]) -> None:
        """Set some vectors of points that are there, by id; their other ones stay."""
        made = [edge.PointVectors(id_, _vectors(vectors)) for id_, vectors in points]
        self._update(edge.UpdateOperation.update_vectors(made))

    def add_sparse(self, name: str, params: q.SparseVectorParams) -> None:
        """Let points have a sparse vector of this name; none has one yet."""
        self._update(edge.UpdateOperation.create_sparse_vector(name, _modifier(params)))

    def remove_vectors(self, name: str) -> None:
        """Forget a vector of all points, and its name."""
        self._update(edge.UpdateOperation.delete_vector_name(name))

    def index(self, field: str, type_: str) -> None:
        """Index a field of the payload.

        :param type_: as `q.PayloadSchemaType` has it
        """
        kind = getattr(edge.PayloadSchemaType, type_.capitalize(), None)
        if kind is None:
            raise UnsupportedError(f"an index of type {type_}")
        self._update(edge.UpdateOperation.create_field_index(field, kind))

    def unindex(self, field: str) -> None:
        """Forget the index of a field."""
        self._update(edge.UpdateOperation.delete_field_index(field))

    def indexes(self) -> dict[str, str]:
        """The type of each indexed field, as `q.PayloadSchemaType` has it."""
        schema = _asked(self._shard.info).payload_schema
        return {
            field: str(index.data_type).rpartition(".")[2].lower()
            for field, index in schema.items()
        }

    def retrieve(self, ids: Sequence[Any], payload: Selection, vectors: Any) -> list[Any]:
        """Points by id: `id`, `payload` and `vector` of those that are there."""
        found: list[Any] = _asked(self._shard.retrieve, list(ids), _selector(payload), vectors)
        return found

    def scroll(
        self, offset: Any, limit: int, only: q.Filter | None, payload: Selection, vectors: Any
    ) -> tuple[list[Any], Any]:
        """A page of points in the order of their ids, and where the next one begins."""
        request = edge.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=_filter(only),
            with_payload=_selector(payload),
            with_vector=vectors,
        )
        found: tuple[list[Any], Any] = _asked(self._shard.scroll, request)
        return found

    def count(self, only: q.Filter | None = None) -> int:
        """How many points a filter lets through."""
        return int(_asked(self._shard.count, edge.CountRequest(True, _filter(only))))

    @property
    def size(self) -> int:
        """How many points there are, without counting them."""
        return int(_asked(self._shard.info).points_count)

    def facet(self, key: str, limit: int, only: q.Filter | None) -> dict[Any, int]:
        """How many points have each value of an indexed field, the most frequent first."""
        request = edge.FacetRequest(key, limit, True, _filter(only))
        return {hit.value: hit.count for hit in _asked(self._shard.facet, request).hits}

    def query(self, requests: Sequence[q.QueryRequest]) -> list[list[Any]]:
        """For each request its best points: `id`, `version`, `score`, `payload` and `vector`."""
        made = edge.QueryBatchRequest([_query_request(request) for request in requests])
        found: list[list[Any]] = _asked(self._shard.query_batch, made)
        return found

    def optimize(self) -> None:
        """Index the vectors. It holds Python's lock from begin to end."""
        _asked(self._shard.optimize)

    def sync(self) -> int:
        """Bring the write-ahead log to the disk; alone of all methods, beside any other one.

        :returns: bytes of the log, which a start reads again
        :raises OSError: the disk did not take it
        """
        return sum(_synced(file) for file in [*self._log.iterdir(), self._log])

    def flush(self) -> None:
        """Bring everything to the disk, and shorten the write-ahead log.

        It holds Python's lock: 0.2 s after 5,000 points.
        """
        _asked(self._shard.flush)

    def close(self) -> None:
        """Flush and release the folder."""
        _asked(self._shard.close)

    def _update(self, operation: Any) -> None:
        _asked(self._shard.update, operation)


def _synced(path: Path) -> int:
    """Bring a file, or the names in a folder, to the disk; returns its bytes."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # a flush has removed it
        return 0
    try:
        os.fsync(opened)
        return 512 * os.fstat(opened).st_blocks
    finally:
        os.close(opened)


def as_point(record: Any, names: Container[str]) -> Point:
    """A point that was read with its vectors and its payload, to be written elsewhere.

    :param names: of the vectors that it may have there
    """
    vectors = {
        name: SparseRow(row.indices, row.values) if isinstance(row, edge.SparseVector) else row
        for name, row in (record.vector or {}).items()
        if name in names
    }
    return Point(record.id, vectors, record.payload or {})


def _modifier(params: q.SparseVectorParams) -> Any:
    return edge.Modifier.Idf if params.modifier == q.Modifier.IDF else None


def _asked(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:  # the engine has no class of its own for its errors
        raise EngineError(str(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust; no name to import
            raise EngineFailedError(str(error)) from error
        raise


def _vectors(vectors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _vector(vector) for name, vector in vectors.items()}


def _vector(vector: Any) -> Any:
    if isinstance(vector, (SparseRow, q.SparseVector)):
        # As a server does. The engine would write it into its log, and panic at each start.
        if len(vector.values) != len(vector.indices):
            raise EngineError("values: Validation error: must be the same length as indices")
        if len(set(vector.indices)) < len(vector.indices):
            raise EngineError("indices: Validation error: must be unique")
        return edge.SparseVector(vector.indices, vector.values)
    if isinstance(vector, Sequence) and (not vector or isinstance(vector[0], (float, int))):
        return vector
    raise UnsupportedError(f"a vector given as {type(vector).__name__}")


def _selector(wanted: Any) -> Any:
    if isinstance(wanted, q.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(wanted.exclude)
    if isinstance(wanted, q.PayloadSelectorInclude):
        return edge.PayloadSelector.Include(wanted.include)
    return wanted or False


def _query_request(request: q.QueryRequest) -> Any:
    prefetches = [_prefetch(one) for one in _listed(request.prefetch)]
    return edge.QueryRequest(
        limit=request.limit or 10,
        offset=request.offset or 0,
        query=_query(request.query, request.using, request.limit or 10),
        prefetches=prefetches,
        with_vector=request.with_vector or False,
        with_payload=_selector(request.with_payload),
        filter=_filter(request.filter),
        score_threshold=request.score_threshold,
        params=_params(request.params),
    )


def _prefetch(one: q.Prefetch) -> Any:
    return edge.Prefetch(
        limit=one.limit or 10,
        query=_query(one.query, one.using, one.limit or 10),
        prefetches=[_prefetch(inner) for inner in _listed(one.prefetch)],
        params=_params(one.params),
        filter=_filter(one.filter),
        score_threshold=one.score_threshold,
    )


def _query(query: Any, using: str | None, limit: int) -> Any:
    if query is None:
        return None
    if isinstance(query, q.NearestQuery) and query.mmr is None:
        return edge.Query.Nearest(_vector(query.nearest), using=using)
    if isinstance(query, q.NearestQuery) and query.mmr is not None:
        diversity = 0.5 if query.mmr.diversity is None else query.mmr.diversity
        candidates = query.mmr.candidates_limit or limit
        return edge.Mmr(_vector(query.nearest), 1 - diversity, candidates, using)
    if isinstance(query, q.FusionQuery):
        kinds = {q.Fusion.RRF: edge.Fusion.Rrf(2), q.Fusion.DBSF: edge.Fusion.Dbsf()}
        return kinds[query.fusion]
    if isinstance(query, q.RrfQuery):
        return edge.Fusion.Rrf(query.rrf.k or 2, query.rrf.weights)
    raise UnsupportedError(f"a query of type {type(query).__name__}")


def _params(params: q.SearchParams | None) -> Any:
    if params is None:
        return None
    return edge.SearchParams(hnsw_ef=params.hnsw_ef, exact=params.exact or False)


def _filter(only: q.Filter | None) -> Any:
    if only is None:
        return None
    if only.min_should is not None:
        raise UnsupportedError("a filter with min_should")
    return edge.Filter(
        must=_conditions(only.must),
        should=_conditions(only.should),
        must_not=_conditions(only.must_not),
    )


def _conditions(conditions: Any) -> list[Any] | None:
    return [_condition(one) for one in _listed(conditions)] or None


def _condition(one: Any) -> Any:
    if isinstance(one, q.Filter):
        return _filter(one)
    if isinstance(one, q.HasIdCondition):
        return edge.HasIdCondition(set(one.has_id))
    if isinstance(one, q.HasVectorCondition):
        return edge.HasVectorCondition(one.has_vector)
    if isinstance(one, q.IsEmptyCondition):
        return edge.IsEmptyCondition(one.is_empty.key)
    if isinstance(one, q.IsNullCondition):
        return edge.IsNullCondition(one.is_null.key)
    if isinstance(one, q.FieldCondition) and one.match is not None:
        return edge.FieldCondition(one.key, match=_match(one.match))
    if isinstance(one, q.FieldCondition) and isinstance(one.range, q.Range):
        between = one.range
        bounds = edge.RangeFloat(gte=between.gte, gt=between.gt, lte=between.lte, lt=between.lt)
        return edge.FieldCondition(one.key, range=bounds)
    if isinstance(one, q.FieldCondition) and isinstance(one.range, q.DatetimeRange):
        moments = {
            name: moment.isoformat()
            for name in ("gte", "gt", "lte", "lt")
            if (moment := getattr(one.range, name)) is not None
        }
        return edge.FieldCondition(one.key, range=edge.RangeDateTime(**moments))
    raise UnsupportedError(f"the condition {one}")


def _match(match: Any) -> Any:
    if isinstance(match, q.MatchValue):
        return edge.MatchValue(match.value)
    if isinstance(match, q.MatchAny):
        return edge.MatchAny(_plain(match.any))
    if isinstance(match, q.MatchExcept):
        return edge.MatchExcept(_plain(match.except_))
    if isinstance(match, q.MatchText):
        return edge.MatchText(match.text)
    raise UnsupportedError(f"the match {match}")


def _plain(values: Iterable[Any]) -> Any:
    return list(values)


def _listed(items: Any) -> list[Any]:
    if items is None:
        return []
    return items if isinstance(items, list) else [items]
