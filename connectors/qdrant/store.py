"""Qdrant: what is read of a document, and the writes of a plan."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant.answers import one_line
from connectors.qdrant.models_used import count_by_model
from connectors.qdrant.names import UNPREFIXED, VECTOR_NAME, Collections
from connectors.qdrant.owner import Owner, check_owner, claim
from connectors.qdrant.patient import PatientClient
from connectors.qdrant.requests import MAX_POINTS, set_payload, tombstone, version_in
from connectors.qdrant.schema import ensure_schema
from connectors.qdrant.sparse import add_sparse, has_sparse, named
from models import Version, record_id
from models.fresh import without_text
from models.identity import drop_fence_id
from models.plans import NewChunk, RefreshPlan, RemovalPlan, UpsertPlan
from models.sparse import NO_TERMS, SparseWeights
from models.stored import SUSPECT, Key, Stored

T = TypeVar("T")
K = TypeVar("K")

log = logging.getLogger("connectors")


class QdrantStore:
    """The feature store: records, chunks and tombstones.

    Thread-safe. Every write waits until it is applied; a server that is away is waited for.

    :param client: of a server, of the embedded store or of one in memory
    :param types: the document types
    :param collections: their names
    :param removed: asked where a collection is missing: whether its place was removed
    :raises PlaceGoneError: by each method, if it was
    """

    def __init__(
        self,
        client: QdrantClient,
        types: Iterable[str],
        collections: Collections = UNPREFIXED,
        removed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = PatientClient(client, removed)
        self._types = tuple(types)
        self._names = collections
        self._weighted: set[str] = set()

    def ensure_collections(self, dimension: int) -> None:
        """Create what is missing, payload indexes before the first write.

        :raises ConfigurationError: a collection exists with other vectors
        """
        ensure_schema(self._client.call, self._names, self._types, dimension)

    def claim(self, owner: Owner) -> None:
        """Make the store this pipeline's, if it is nobody's.

        :raises ConfigurationError: it belongs to another pipeline
        """
        claim(self._client.call, self._names, owner)

    def check_owner(self, owner: Owner) -> None:
        """Refuse the store of another pipeline, without claiming one that is nobody's.

        :raises ConfigurationError: it belongs to another pipeline
        """
        check_owner(self._client.call, self._names, owner)

    def chunks_by_model(self) -> "Counter[str]":
        """How many chunks each model has embedded; empty where the store cannot tell."""
        try:
            return self._client.attempt(lambda c: count_by_model(c, self._names, self._types))
        except Exception as error:  # noqa: BLE001 (no error of this may keep a flow from starting)
            log.warning("chunks were not counted by model: %s", one_line(error))
            return Counter()

    def read(self, keys: Sequence[Key], list_chunks: Collection[Key] = ()) -> dict[Key, Stored]:
        """W1, W3: what is stored of each document; for those in `list_chunks` with all chunks."""
        by_type = _grouped((key.type, key) for key in keys)
        records: dict[str, Mapping[str, Any]] = {}
        chunks: dict[Key, dict[str, Mapping[str, Any]]] = {}
        for type_, some in by_type.items():
            records |= self._client.payloads(
                self._names.cleaned(type_),
                [record_id(*key) for key in some],
                q.PayloadSelectorExclude(exclude=["cleaned_content"]),
            )
            chunks |= self._chunks_of(type_, [key for key in some if key in list_chunks])
        # Last: who removes a document buries it first, so that it is seen in one of both.
        fences = {type_: drop_fence_id(type_) for type_ in by_type}
        tombstones = self._client.payloads(
            self._names.tombstones, [*(record_id(*key) for key in keys), *fences.values()]
        )
        stored = {}
        for key in keys:
            record = records.get(record_id(*key))
            versions = (
                version_in(record),
                version_in(tombstones.get(record_id(*key))),
                version_in(tombstones.get(fences[key.type])),
            )
            stored[key] = Stored(max(versions), record, chunks.get(key))
        return stored

    def recorded(self, keys: Collection[Key]) -> set[Key]:
        """Those of the documents that have a record."""
        by_id = {record_id(*key): key for key in keys}
        ids = _grouped((key.type, id_) for id_, key in by_id.items())
        return {
            by_id[id_]
            for type_, some in ids.items()
            for id_ in self._client.payloads(self._names.cleaned(type_), some, False)
        }

    def hollow(self, named: Mapping[Key, Sequence[str]]) -> set[Key]:
        """Documents of which a chunk is missing, by the ids of those that each should have."""
        missing: set[Key] = set()
        ids = _grouped((key.type, id_) for key, some in named.items() for id_ in some)
        for type_, some in ids.items():
            there = self._client.payloads(self._names.vectors(type_), some, False)
            missing |= {
                key for key in named if key.type == type_ and not there.keys() >= set(named[key])
            }
        return missing

    def live(self, type_: str, older_than: Version) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Records of a type whose version is at most `older_than`, without their texts."""
        fields = q.PayloadSelectorInclude(
            include=["entry_id", "version", "ordinal", "chunk_ids", SUSPECT]
        )
        for _, payload in self._client.scroll(self._names.cleaned(type_), None, fields):
            # Compared here: Qdrant's range filters compare as 64-bit floats.
            if version_in(payload) <= older_than:
                yield Key(type_, payload["entry_id"]), payload

    def fence_type(self, type_: str, version: Version) -> None:
        """Remember the drop of a whole collection: nothing of this version or older comes back."""
        fence = drop_fence_id(type_)
        with self._client.lock:
            known = version_in(self._client.payloads(self._names.tombstones, [fence]).get(fence))
            self._client.upsert(
                self._names.tombstones, [tombstone(fence, type_, "", max(known, version))]
            )

    def upsert_chunks(
        self,
        chunks: Sequence[NewChunk],
        vectors: npt.NDArray[np.float32],
        weights: Sequence[SparseWeights],
    ) -> None:
        """W2: write new chunks with their vectors, dense and sparse."""
        rows = zip(chunks, vectors, weights, strict=True)
        for type_, some in _grouped((row[0].key.type, row) for row in rows).items():
            collection = self._names.vectors(type_)
            weighted = self._is_weighted(collection)
            points = (_chunk(*row[:2], row[2] if weighted else NO_TERMS) for row in some)
            self._client.upsert(collection, points, many=len(some) > MAX_POINTS)

    def bury(self, removals: Sequence[RemovalPlan]) -> None:
        """F1: tombstones of what is removed; from here on nothing older can come back."""
        self._client.upsert(
            self._names.tombstones,
            [tombstone(record_id(*plan.key), *plan.key, plan.version) for plan in removals],
        )

    def update_chunks(self, upserts: Sequence[UpsertPlan]) -> None:
        """F2: payloads of kept chunks; no vector is touched."""
        updates = (
            (
                plan.key.type,
                set_payload({**update.fields, "version": plan.version.time}, update.ids),
            )
            for plan in upserts
            for update in plan.updates
        )
        for type_, some in _grouped(updates).items():
            self._client.set_payloads(self._names.vectors(type_), some)

    def delete_chunks(self, chunks: Sequence[tuple[Key, str]]) -> None:
        """F3: chunks that are gone, by document and id."""
        for type_, ids in _grouped((key.type, id_) for key, id_ in chunks).items():
            self._client.delete(self._names.vectors(type_), ids)

    def refresh_records(self, refreshes: Sequence[RefreshPlan]) -> None:
        """F4: the version of records where nothing else has changed."""
        ids = _grouped(((plan.key.type, plan.version), record_id(*plan.key)) for plan in refreshes)
        updates = (
            (type_, set_payload(version.fields(), some)) for (type_, version), some in ids.items()
        )
        for type_, some in _grouped(updates).items():
            self._client.set_payloads(self._names.cleaned(type_), some)

    def upsert_records(self, upserts: Sequence[UpsertPlan]) -> None:
        """F5: whole records. As long as one is missing or old, a repeated change does all again."""
        for type_, some in _grouped((plan.key.type, _record(plan)) for plan in upserts).items():
            self._client.upsert(self._names.cleaned(type_), some)

    def delete_records(self, keys: Sequence[Key]) -> None:
        """F6: records of what is removed."""
        for type_, ids in _grouped((key.type, record_id(*key)) for key in keys).items():
            self._client.delete(self._names.cleaned(type_), ids)

    def suspect(self, key: Key) -> None:
        """Mark the record of a document, see `models.stored.SUSPECT`."""
        update = set_payload({SUSPECT: True}, [record_id(*key)])
        self._client.set_payloads(self._names.cleaned(key.type), [update])

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def add_sparse(self, types: Iterable[str]) -> dict[str, int]:
        """Give every chunk of these types a sparse vector, while flows write or not.

        :returns: by type, how many chunks of it had none
        :raises StoreTooOldError: the server cannot add vectors to a collection that exists
        :raises STORE_ERRORS: the server does not answer, or refuses; call it again
        """

        def add(client: QdrantClient) -> dict[str, int]:
            return {type_: add_sparse(client, self._names.vectors(type_)) for type_ in types}

        return self._client.attempt(add)

    def prune_tombstones(self, deleted_before: float) -> int:
        """Forget tombstones that are older than a moment.

        A tombstone that cannot be forgotten now is forgotten another time.

        :param deleted_before: seconds since 1970
        :returns: how many there were
        """
        age = q.FieldCondition(key="deleted_at", range=q.Range(lt=deleted_before))
        old = q.Filter(must=[age])

        def prune(client: QdrantClient) -> int:
            count = client.count(self._names.tombstones, old).count
            if count:
                client.delete(self._names.tombstones, q.FilterSelector(filter=old), wait=True)
            return count

        try:
            return self._client.attempt(prune)
        except Exception as error:  # noqa: BLE001 (no error of this may end or stop a flow)
            log.warning("old tombstones were not removed: %s", one_line(error))
            return 0

    def _is_weighted(self, collection: str) -> bool:
        """Whether its chunks can have sparse vectors: from now on, if they have been added."""
        if collection not in self._weighted:
            info = self._client.call(methodcaller("get_collection", collection))
            if not has_sparse(info):
                return False
            self._weighted.add(collection)
        return True

    def _chunks_of(
        self, type_: str, keys: Sequence[Key]
    ) -> dict[Key, dict[str, Mapping[str, Any]]]:
        chunks: dict[Key, dict[str, Mapping[str, Any]]] = {key: {} for key in keys}
        for start in range(0, len(keys), 64):
            ids = [key.entry_id for key in keys[start : start + 64]]
            only = q.Filter(must=[q.FieldCondition(key="entry_id", match=q.MatchAny(any=ids))])
            for id_, payload in self._client.scroll(self._names.vectors(type_), only, True):
                chunks[Key(type_, payload["entry_id"])][id_] = without_text(payload)
        return chunks


def _grouped(pairs: Iterable[tuple[K, T]]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for name, item in pairs:
        groups.setdefault(name, []).append(item)
    return groups


def _chunk(
    chunk: NewChunk, vector: npt.NDArray[np.float32], weights: SparseWeights
) -> q.PointStruct:
    payload = {**chunk.payload, "version": chunk.version.time}
    vectors = {VECTOR_NAME: vector, **named(weights)}
    # As pydantic would make it, but it would look at each number.
    return q.PointStruct.model_construct(id=chunk.id, vector=vectors, payload=payload)


def _record(plan: UpsertPlan) -> q.PointStruct:
    payload = {**plan.record, **plan.version.fields(), "indexed_at": time.time()}
    return q.PointStruct(id=record_id(*plan.key), vector={}, payload=payload)
