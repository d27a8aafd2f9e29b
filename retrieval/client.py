"""Searching the stored chunks by meaning, and finding a hit's place in its document."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from qdrant_client import QdrantClient, models

from connectors.qdrant import (
    STORE_ERRORS,
    UNPREFIXED,
    VECTOR_NAME,
    Collections,
    is_missing_collection,
)
from flows.embedding.embedder import TextEmbedder
from flows.embedding.precision import names_of_the_model
from models import DOCUMENT_TYPES, record_id
from models.errors import OtherModelError
from models.fresh import Payload
from retrieval.hits import Context, Hit, Neighbour, Place

_REQUESTS_AT_ONCE: Final = 32
"""Of all threads that use one client; each has one request for each type."""

T = TypeVar("T")


class RetrievalClient:
    """Embeds a query with the flow's own model and merges the best chunks of all types.

    Thread-safe where its store is. Each method sends its requests for all types at the same time.

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
        # Its threads start when they are needed, and end with this client.
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE, "search")

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

        One request for each type, all at the same time, so a search takes one round trip. Only
        chunks embedded by the same model are compared: scores across models mean nothing. A chunk
        is found as soon as it is stored, so a long new document is found in part while it is
        written for the first time; `places` tells.

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
        same_model = _model_is(self._embedder.name)
        wanted = [same_model]
        for key, value in (("author_id", author_id), ("platform", platform)):
            if value is not None:
                wanted.append(models.FieldCondition(key=key, match=models.MatchValue(value=value)))
        vector = self._embedder.encode([query])[0].tolist()

        def of_type(type_: str) -> list[Hit]:
            answer = self._store.query_points(
                self._names.vectors(type_),
                query=vector,
                using=VECTOR_NAME,
                query_filter=models.Filter(must=[*wanted]),
                limit=limit,
            )
            return [_hit(point) for point in answer.points]

        found = self._of_each(of_type, dict.fromkeys(types or DOCUMENT_TYPES))
        hits = [hit for some in found.values() for hit in some]
        if not hits:
            self._check_models(found, same_model)
        return sorted(hits, key=_rank)[:limit]

    def places(self, hits: Sequence[Hit]) -> list[Place | None]:
        """Where each hit stands in its document, by the document's record as it is now.

        One request for each type of the hits. None if the record does not name the chunk: the
        document is being written and the chunk is of its new state, or it has been edited or
        deleted since the search.

        Raises:
            grpc.RpcError: the server does not answer, or refuses.
        """
        named = self._named(hits)
        return [_place(hit, named) for hit in hits]

    def contexts(
        self, hits: Sequence[Hit], *, before: int = 1, after: int = 1
    ) -> list[Context | None]:
        """The place of each hit and up to `before` and `after` chunks around it.

        Two requests for each type of the hits, one after the other: for the records, then for the
        chunks that they name. None where `places` has None. A neighbour that has been removed
        between the two requests is left out; the others are of the state that the record told.

        Raises:
            ValueError: `before` or `after` is negative.
            grpc.RpcError: the server does not answer, or refuses.
        """
        if before < 0 or after < 0:
            raise ValueError(f"before and after must be 0 or more, not {before} and {after}")
        named = self._named(hits)
        places = [_place(hit, named) for hit in hits]
        around = [
            _around(named[_record_of(hit)], place.position, before, after) if place else {}
            for hit, place in zip(hits, places, strict=True)
        ]
        wanted = [(hit.type, id_) for hit, ids in zip(hits, around, strict=True) for id_ in ids]
        chunks = self._payloads(self._names.vectors, wanted, ["path", "content"])
        return [
            _context(place, ids, chunks) if place else None
            for place, ids in zip(places, around, strict=True)
        ]

    def _named(self, hits: Iterable[Hit]) -> dict[str, list[str]]:
        """The chunks that the records of these hits name, in their order, by the record's id."""
        wanted = [(hit.type, _record_of(hit)) for hit in hits]
        records = self._payloads(self._names.cleaned, wanted, ["chunk_ids"])
        return {id_: list(record.get("chunk_ids") or ()) for id_, record in records.items()}

    def _payloads(
        self,
        collection: Callable[[str], str],
        wanted: Iterable[tuple[str, str]],
        fields: Sequence[str],
    ) -> dict[str, Payload]:
        """Payloads by id, of the points that there are, by one request for each type.

        :param wanted: types and ids
        """
        ids: dict[str, dict[str, None]] = {}
        for type_, id_ in wanted:
            ids.setdefault(type_, {})[id_] = None

        def of_type(type_: str) -> list[models.Record]:
            return self._store.retrieve(
                collection(type_), list(ids[type_]), with_payload=list(fields)
            )

        found = self._of_each(of_type, ids)
        return {str(point.id): point.payload or {} for some in found.values() for point in some}

    def _of_each(self, ask: Callable[[str], T], types: Iterable[str]) -> dict[str, T]:
        """The answers of all types that have a collection, asked for at the same time."""

        def unless_missing(type_: str) -> list[tuple[str, T]]:
            try:
                return [(type_, ask(type_))]
            except (ValueError, *STORE_ERRORS) as error:
                if is_missing_collection(error):
                    return []
                raise

        return dict(pair for some in self._pool.map(unless_missing, types) for pair in some)

    def _check_models(self, types: Iterable[str], same: models.FieldCondition) -> None:
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


def _rank(hit: Hit) -> tuple[float, str, str, str]:
    return -hit.score, hit.type, hit.entry_id, hit.id


def _record_of(hit: Hit) -> str:
    return record_id(hit.type, hit.entry_id)


def _place(hit: Hit, named: Mapping[str, Sequence[str]]) -> Place | None:
    ids = named.get(_record_of(hit), ())
    return Place(ids.index(hit.id), len(ids)) if hit.id in ids else None


def _around(ids: Sequence[str], position: int, before: int, after: int) -> dict[str, int]:
    """The chunks beside one, with their positions."""
    places = range(max(0, position - before), min(len(ids), position + after + 1))
    return {ids[place]: place for place in places if place != position}


def _context(place: Place, ids: Mapping[str, int], chunks: Mapping[str, Payload]) -> Context:
    found = [
        Neighbour(position, chunks[id_].get("path"), chunks[id_]["content"])
        for id_, position in ids.items()
        if id_ in chunks
    ]
    return Context(
        place,
        tuple(one for one in found if one.position < place.position),
        tuple(one for one in found if one.position > place.position),
    )


def _hit(point: models.ScoredPoint) -> Hit:
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
        id=str(point.id),
    )
