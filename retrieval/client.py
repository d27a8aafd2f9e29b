"""Searching the stored chunks by meaning."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qdrant_client import QdrantClient, models

from connectors.qdrant import UNPREFIXED, VECTOR_NAME, Collections
from flows.embedding.embedder import TextEmbedder
from flows.embedding.precision import names_of_the_model
from models import DOCUMENT_TYPES, record_id
from models.errors import OtherModelError

_ROUNDS: Final = 3
"""How often a type is asked at most, where documents without a record were among the best."""


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
    position: int | None
    """Place of the chunk within its document, from 0; None while the document is being edited and
    its record does not name the chunk yet."""


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

        Only chunks embedded by the same model are compared: scores across models mean nothing. A
        new document is found when all its chunks are stored, which is when it has its record.

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
        stored = [
            type_
            for type_ in types or DOCUMENT_TYPES
            if self._store.collection_exists(self._names.vectors(type_))
        ]
        if not stored:
            return []
        same_model = _model_is(self._embedder.name)
        wanted = [same_model]
        for key, value in (("author_id", author_id), ("platform", platform)):
            if value is not None:
                wanted.append(models.FieldCondition(key=key, match=models.MatchValue(value=value)))
        vector = self._embedder.encode([query])[0].tolist()
        hits = [hit for type_ in stored for hit in self._of_type(type_, vector, wanted, limit)]
        if not hits:
            self._check_models(stored, same_model)
        return sorted(hits, key=_rank)[:limit]

    def _of_type(
        self,
        type_: str,
        vector: list[float],
        wanted: list[models.FieldCondition],
        limit: int,
    ) -> list[Hit]:
        """The best chunks of one type, but for those of documents that have no record yet."""
        hidden: list[str] = []
        hits: list[Hit] = []
        for _ in range(_ROUNDS):
            unrecorded = models.FieldCondition(key="entry_id", match=models.MatchAny(any=hidden))
            points = self._store.query_points(
                self._names.vectors(type_),
                query=vector,
                using=VECTOR_NAME,
                query_filter=models.Filter(must=[*wanted], must_not=[unrecorded] * bool(hidden)),
                limit=limit,
            ).points
            places = self._places(type_, {_document_of(point) for point in points})
            hits = [_hit(p, places[_document_of(p)]) for p in points if _document_of(p) in places]
            if len(hits) == len(points):
                break
            hidden += {_document_of(point) for point in points} - places.keys()
        return hits

    def _places(self, type_: str, entry_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """Place of each chunk by its id, for each of these documents that has its record."""
        ids = {record_id(type_, entry_id): entry_id for entry_id in entry_ids}
        if not ids:
            return {}
        name, fields = self._names.cleaned(type_), ["chunk_ids"]
        return {
            ids[str(record.id)]: {
                id_: place for place, id_ in enumerate((record.payload or {}).get("chunk_ids", ()))
            }
            for record in self._store.retrieve(name, list(ids), with_payload=fields)
        }

    def _check_models(self, types: Sequence[str], same: models.FieldCondition) -> None:
        """Tell "nothing like it" from "nothing comparable"."""
        other: str | None = None
        for name in map(self._names.vectors, types):
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


def _rank(hit: Hit) -> tuple[float, str, str, bool, int]:
    return -hit.score, hit.type, hit.entry_id, hit.position is None, hit.position or 0


def _document_of(point: models.ScoredPoint) -> str:
    return str((point.payload or {}).get("entry_id"))


def _hit(point: models.ScoredPoint, places: Mapping[str, int]) -> Hit:
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
        position=places.get(str(point.id)),
    )
