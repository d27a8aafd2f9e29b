"""Searching the stored chunks by meaning and by words, and the place of a hit in its document."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np
from qdrant_client import QdrantClient, models
from typing_extensions import Unpack

from connectors.qdrant import (
    STORE_ERRORS,
    UNPREFIXED,
    VECTOR_NAME,
    Collections,
    is_missing_collection,
    is_missing_vector,
    read_places,
)
from flows.embedding.embedder import TextEmbedder, Vectors
from flows.embedding.precision import names_of_the_model
from flows.embedding.reranker import PairScorer
from models import DOCUMENT_TYPES, record_id
from models.errors import ConfigurationError, OtherModelError
from models.fresh import Payload
from models.sparse import query_weights
from retrieval.ask import Found, Query, ask
from retrieval.choice import choose
from retrieval.fusion import merged
from retrieval.hits import Context, Hit, Place
from retrieval.options import DEEPEST, Mode, Options, Wanted
from retrieval.places import around, context_of, place_of

_REQUESTS_AT_ONCE: Final = 32
"""Of all threads that use one client; each has one request for each type."""

_QUERIES_AT_ONCE: Final = 32

T = TypeVar("T")

log = logging.getLogger("retrieval")


class RetrievalClient:
    """Embeds queries with the flow's own model and merges the best chunks of all types.

    Thread-safe where its store is. Each method sends its requests for all types at the same time.

    :param collections: names of the collections, where they have a prefix
    :param reranker: a cross-encoder that decides the order of the best hits of each search
    """

    def __init__(
        self,
        store: QdrantClient,
        embedder: TextEmbedder,
        collections: Collections = UNPREFIXED,
        reranker: PairScorer | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._names = collections
        self._reranker = reranker
        # Its threads start when they are needed, and end with this client.
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE, "search")
        self.dense_only: set[str] = set()
        """Types that were found to have no sparse vectors: `make reconcile` adds them."""

    def search(self, query: str, **options: Unpack[Options]) -> list[Hit]:
        """Return the best hits for a query, best first.

        One request for each type, all at the same time, so a search takes one round trip. By
        meaning, only chunks embedded by the same model are compared: scores across models mean
        nothing. A chunk is found as soon as it is stored, so a long new document is found in part
        while it is written for the first time; `places` tells.

        A hybrid search takes the best by meaning of all types together, the best by words in the
        same way, and fuses the two lists by rank. By words, each type weighs a term by how rare it
        is among the chunks of that type. Where a type has no sparse vectors yet, it is searched by
        meaning only, see `dense_only`.

        Each page of a search (`offset`) is made anew. The pages of a hybrid search up to the 15th,
        31st, 63rd … hit are of lists of one length; a later one is of longer lists, by which a hit
        may move over the border between two pages. Re-ranking scores the best
        `candidates` again; `diversity` chooses among them, which takes a request more for each
        type.

        Raises:
            ValueError: the query is blank, or the options make no sense.
            OtherModelError: there are chunks, and all are of other models.
            ConfigurationError: the mode is sparse, and there are no sparse vectors.
            grpc.RpcError: the server does not answer, or refuses.
        """
        return self.search_many([query], **options)[0]

    def search_many(self, queries: Sequence[str], **options: Unpack[Options]) -> list[list[Hit]]:
        """The hits of several queries, in their order; up to 32 queries share their requests.

        Raises:
            As `search`, which is this with one query.
        """
        if options.get("rerank") is None:
            options["rerank"] = self._reranker is not None
        wanted = Wanted(**options)
        if any(not query.strip() for query in queries):
            raise ValueError("the query is empty")
        found = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = queries[start : start + _QUERIES_AT_ONCE]
            best = self._search(self._prepared(some, wanted.mode), wanted, wanted.depth)
            found += choose(some, best, wanted, self._reranker, self._vectors)
        return found

    def _prepared(self, texts: Sequence[str], mode: Mode) -> list[Query]:
        nothing = [None] * len(texts)
        vectors: Iterable[Any] = nothing if mode == "sparse" else self._embedder.encode(texts)
        weights: Iterable[Any] = nothing if mode == "dense" else map(query_weights, texts)
        return [
            Query(vector, terms if terms and terms.indices else None)
            for vector, terms in zip(vectors, weights, strict=True)
        ]

    def _search(self, queries: Sequence[Query], wanted: Wanted, depth: int) -> list[list[Hit]]:
        # Precisions of one model agree to 0.999, int8 to 0.95 at least: a laptop may search what a
        # server has embedded.
        compares = wanted.mode != "sparse" or wanted.diversity
        names = names_of_the_model(self._embedder.name) if compares else ()
        only = wanted.filter(names)

        def of_type(type_: str) -> list[Found]:
            return self._ask(type_, queries, wanted, only, depth)

        answers = self._of_each(of_type, dict.fromkeys(wanted.types or DOCUMENT_TYPES))
        if wanted.mode == "sparse" and answers and self.dense_only.issuperset(answers):
            raise ConfigurationError("the store has no sparse vectors: make reconcile adds them")
        results = []
        for query, *found in zip(queries, *answers.values(), strict=True):
            page = merged(found, wanted, depth)
            if page is None:  # too few documents have all of the best chunks
                [page] = self._search([query], wanted, min(4 * depth, DEEPEST))
            results.append(page)
        if names and not any(results):
            self._check_models(answers, names)
        return results

    def _ask(
        self,
        type_: str,
        queries: Sequence[Query],
        wanted: Wanted,
        only: models.Filter | None,
        depth: int,
    ) -> list[Found]:
        collection = self._names.vectors(type_)
        try:
            found = ask(self._store, collection, queries, wanted, only, depth)
        except (ValueError, *STORE_ERRORS) as error:
            if not is_missing_vector(error) or wanted.mode == "dense":
                raise
            if type_ not in self.dense_only:
                log.warning("%s: by meaning only, until make reconcile adds sparse vectors", type_)
            self.dense_only.add(type_)
            dense = [query._replace(weights=None) for query in queries]
            return ask(self._store, collection, dense, wanted, only, depth)
        if any(query.weights for query in queries):
            self.dense_only.discard(type_)
        return found

    def places(self, hits: Sequence[Hit]) -> list[Place | None]:
        """Where each hit stands in its document, by the document's record as it is now.

        One request for each type of the hits. None if the record does not name the chunk: the
        document is being written and the chunk is of its new state, or it has been edited or
        deleted since the search.

        Raises:
            grpc.RpcError: the server does not answer, or refuses.
        """
        named = self._named(hits)
        return [place_of(hit, named.get(_record_of(hit), ())) for hit in hits]

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
        places = [place_of(hit, named.get(_record_of(hit), ())) for hit in hits]
        beside = [
            around(named[_record_of(hit)], place.position, before, after) if place else {}
            for hit, place in zip(hits, places, strict=True)
        ]
        wanted = [(hit.type, id_) for hit, ids in zip(hits, beside, strict=True) for id_ in ids]
        chunks = self._payloads(self._names.vectors, wanted, ["path", "content"])
        return [
            context_of(place, ids, chunks) if place else None
            for place, ids in zip(places, beside, strict=True)
        ]

    def documents(self, hits: Sequence[Hit]) -> list[str | None]:
        """The whole text of each hit's document, as its record has it now; None where it is gone.

        One request for each type of the hits.

        Raises:
            grpc.RpcError: the server does not answer, or refuses.
        """
        wanted = [(hit.type, _record_of(hit)) for hit in hits]
        records = self._payloads(self._names.cleaned, wanted, ["cleaned_content"])
        return [records.get(id_, {}).get("cleaned_content") for _, id_ in wanted]

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
        """Payloads by id, see `_points`."""
        found = self._points(collection, wanted, list(fields), False)
        return {id_: point.payload or {} for id_, point in found.items()}

    def _vectors(self, hits: Iterable[Hit]) -> dict[str, Vectors]:
        """The dense vectors of those hits that are still there, by id."""
        wanted = ((hit.type, hit.id) for hit in hits)
        found = self._points(self._names.vectors, wanted, False, [VECTOR_NAME])
        return {
            id_: np.asarray(point.vector[VECTOR_NAME], dtype=np.float32)
            for id_, point in found.items()
            if isinstance(point.vector, dict) and VECTOR_NAME in point.vector
        }

    def _points(
        self,
        collection: Callable[[str], str],
        wanted: Iterable[tuple[str, str]],
        fields: list[str] | bool,
        vectors: list[str] | bool,
    ) -> dict[str, models.Record]:
        """Points by id, as far as they are there, by one request for each type.

        :param wanted: types and ids
        """
        ids: dict[str, dict[str, None]] = {}
        for type_, id_ in wanted:
            ids.setdefault(type_, {})[id_] = None

        def of_type(type_: str) -> list[models.Record]:
            some = list(ids[type_])
            return self._store.retrieve(
                collection(type_), some, with_payload=fields, with_vectors=vectors
            )

        found = self._of_each(of_type, ids)
        return {str(point.id): point for some in found.values() for point in some}

    def _of_each(self, ask: Callable[[str], T], types: Iterable[str]) -> dict[str, T]:
        """The answers of all types that have a collection, asked for at the same time."""

        def unless_missing(type_: str) -> list[tuple[str, T]]:
            try:
                return [(type_, ask(type_))]
            except (ValueError, *STORE_ERRORS) as error:
                if is_missing_collection(error):
                    return []
                raise

        answers = list(self._pool.map(unless_missing, types))
        if not all(answers):
            self._check_place()
        return dict(pair for some in answers for pair in some)

    def _check_place(self) -> None:
        """Tell a type that was never stored from a model that was removed from the store."""
        places = read_places(self._store, self._names)
        if places is not None and places.lacks(self._names.place):
            raise OtherModelError(
                f"{self._embedder.name!r} was removed from the store, which was migrated to "
                f"{places.searched.model!r}: search by that, or follow migrations by "
                "retrieval.following.Searches"
            )

    def _check_models(self, types: Collection[str], names: Sequence[str]) -> None:
        """Tell "nothing like it" from "nothing comparable"."""
        same = models.FieldCondition(key="model", match=models.MatchAny(any=list(names)))
        other: str | None = None
        for name in map(self._names.vectors, types):
            if self._store.scroll(name, models.Filter(must=[same]), limit=1)[0]:
                return
            for point in self._store.scroll(name, limit=1)[0]:
                other = (point.payload or {}).get("model")
        if types and other is None:  # made again by one who did not know that they were removed
            self._check_place()
        if other:
            raise OtherModelError(
                f"the stored chunks were embedded by {other!r}, the query by "
                f"{self._embedder.name!r}: set EMBEDDING_MODEL to the model of the features flow"
            )


def _record_of(hit: Hit) -> str:
    return record_id(hit.type, hit.entry_id)
