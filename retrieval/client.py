"""Searching the stored chunks by meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models

from connectors.qdrant import UNPREFIXED, VECTOR_NAME, Collections
from flows.embedding.embedder import TextEmbedder
from flows.embedding.precision import names_of_the_model
from models import DOCUMENT_TYPES
from models.errors import OtherModelError


@dataclass(frozen=True, slots=True)
class Hit:
    """One stored chunk that answers a query."""

    score: float
    """Cosine similarity to the query, 1 at most."""
    type: str
    """Document type: the MongoDB collection."""
    entry_id: str
    """Which document, as a string."""
    author_id: str | None
    """Author of the document, or owner of the repository."""
    platform: str | None
    """Where it was published; repositories have none."""
    link: str | None
    """Where a reader finds it."""
    name: str | None
    """Name of the repository; other types have none."""
    path: str | None
    """File in the repository, or field of the content."""
    content: str
    """Text of the chunk."""
    position: int
    """Place of the chunk within its document."""


class RetrievalClient:
    """Embeds a query with the flow's own model and merges the best chunks of all types.

    :param collections: names of the collections, where they have a prefix
    """

    def __init__(
        self,
        store: QdrantClient,
        embedder: TextEmbedder,
        collections: Collections = UNPREFIXED,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._names = collections

    def search(
        self,
        query: str,
        *,
        limit: int = 5,
        types: Sequence[str] = (),
        author_id: str | None = None,
        platform: str | None = None,
    ) -> list[Hit]:
        """Return at most `limit` hits, best first; of all document types unless `types` names some.

        Only chunks embedded by the same model are compared: scores across models mean nothing.

        Raises:
            ValueError: the query is blank, `limit` is below 1, or a type is unknown.
            OtherModelError: there are chunks, and all are of other models.
            grpc.RpcError: the server does not answer, or refuses.
        """
        if not query.strip():
            raise ValueError("the query is empty")
        if limit < 1:
            raise ValueError(f"the limit must be 1 or more, not {limit}")
        if unknown := sorted(set(types) - set(DOCUMENT_TYPES)):
            known = ", ".join(DOCUMENT_TYPES)
            raise ValueError(f"unknown document type {unknown[0]!r}; known are {known}")
        collections = [self._names.vectors(type_) for type_ in types or DOCUMENT_TYPES]
        collections = [name for name in collections if self._store.collection_exists(name)]
        if not collections:
            return []
        same_model = _model_is(self._embedder.name)
        wanted = models.Filter(
            must=[
                same_model,
                *(
                    models.FieldCondition(key=key, match=models.MatchValue(value=value))
                    for key, value in (("author_id", author_id), ("platform", platform))
                    if value is not None
                ),
            ]
        )
        vector = self._embedder.encode([query])[0].tolist()
        hits: list[Hit] = []
        for name in collections:
            found = self._store.query_points(
                name, query=vector, using=VECTOR_NAME, query_filter=wanted, limit=limit
            )
            hits += [_hit(point.score, point.payload or {}) for point in found.points]
        if not hits:
            self._check_models(collections, same_model)
        hits.sort(key=lambda hit: (-hit.score, hit.type, hit.entry_id, hit.position))
        return hits[:limit]

    def _check_models(self, collections: Sequence[str], same: models.FieldCondition) -> None:
        """Tell "nothing like it" from "nothing comparable"."""
        other: str | None = None
        for name in collections:
            if self._store.scroll(name, models.Filter(must=[same]), limit=1)[0]:
                return
            for point in self._store.scroll(name, limit=1)[0]:
                other = (point.payload or {}).get("model")
        if other:
            raise OtherModelError(
                f"the stored chunks were embedded by {other!r}, the query by "
                f"{self._embedder.name!r}: set EMBEDDING_MODEL to the model of the features flow"
            )


def _model_is(name: str) -> models.FieldCondition:
    # Precisions of one model agree to 0.9999, so a laptop may search what a server has embedded.
    names = names_of_the_model(name)
    return models.FieldCondition(key="model", match=models.MatchAny(any=names))


def _hit(score: float, payload: dict[str, Any]) -> Hit:
    return Hit(
        score=score,
        type=payload["type"],
        entry_id=payload["entry_id"],
        author_id=payload.get("author_id"),
        platform=payload.get("platform"),
        link=payload.get("link"),
        name=payload.get("name"),
        path=payload.get("path"),
        content=payload["content"],
        position=payload["position"],
    )
