"""One request to a collection for several queries, and its answer as hits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from qdrant_client import QdrantClient
from qdrant_client import models as q

from models.sparse import SparseWeights
from retrieval.hits import Hit
from retrieval.options import Wanted


class Query(NamedTuple):
    """A query as it is sent."""

    vector: Any
    """None where it is not searched by meaning."""
    weights: SparseWeights | None
    """None where it is not searched by words, or has none."""


class Found(NamedTuple):
    """The best chunks for a query, each list with the best first."""

    dense: list[Hit]
    sparse: list[Hit]


def ask(
    store: QdrantClient,
    collection: str,
    queries: Sequence[Query],
    wanted: Wanted,
    only: q.Filter | None,
    depth: int,
) -> list[Found]:
    """The best chunks of a collection for each query.

    :param depth: of each list
    """
    found = [Found([], []) for _ in queries]
    lists: list[list[Hit]] = []
    requests = []
    for query, some in zip(queries, found, strict=True):
        if query.vector is not None:
            lists.append(some.dense)
            requests.append(wanted.dense(query.vector, only, depth))
        if query.weights is not None:
            lists.append(some.sparse)
            requests.append(wanted.sparse(query.weights, only, depth))
    answers = store.query_batch_points(collection, requests) if requests else []
    for hits, answer in zip(lists, answers, strict=True):
        hits.extend(map(_hit, answer.points))
    return found


def _hit(point: q.ScoredPoint) -> Hit:
    payload = point.payload or {}
    return Hit(
        score=point.score,
        type=payload["type"],
        entry_id=payload["entry_id"],
        author_id=payload.get("author_id"),
        platform=payload.get("platform"),
        link=payload.get("link"),
        name=payload.get("name"),
        path=payload.get("path"),
        content=payload["content"],
        context=payload.get("context"),
        published_at=payload.get("published_at"),
        updated_at=payload.get("updated_at"),
        language=payload.get("language"),
        tags=tuple(payload.get("tags") or ()),
        id=str(point.id),
    )
