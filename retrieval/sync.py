"""What "in sync" means: the store holds what a fresh sync of the final MongoDB state would produce.

The expectation is made of the flow's own pure steps and `models.fresh`. Whatever an incremental
sync with crashes has left in the real store must equal that, but for `version`, `ordinal` and
`indexed_at`.

Both sides are held in memory whole, so this is for tests and the demo, up to some ten thousand
documents. `flows.reconcile` compares any number of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

import numpy as np
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import SPARSE_NAME, UNPREFIXED, VECTOR_NAME, Collections, scroll
from flows.embedding.embedder import TextEmbedder, Vectors
from flows.operators.prepare import MAX_CHUNKS, chunk, clean, decode
from flows.text.chunk import Chunker, Splitter
from models import DOCUMENT_TYPES, CapturedChange, ChangeEvent, Delivery, record_id
from models.fresh import difference, embedded_text, fresh_points
from models.prepared import Upsert
from models.sparse import NO_TERMS, SparseWeights, chunk_weights

COSINE: Final = 0.999
"""Vectors of the same text are equal above this: batches of other shapes round differently."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the store."""

    payload: Mapping[str, Any]
    vector: Vectors | None = None
    """None where there is none, or where it was not read."""
    sparse: SparseWeights | None = None
    """The same."""


@dataclass(frozen=True, slots=True)
class State:
    """Content of the store: for each collection, by its name without prefix, its points by id."""

    points: Mapping[str, Mapping[str, Point]] = field(default_factory=dict)
    with_vectors: bool = False
    """Whether vectors were read; they are compared where both states have them."""

    def documents(self, type_: str) -> int:
        """How many documents of a type are stored."""
        return len(self.points.get(UNPREFIXED.cleaned(type_), ()))

    def chunks(self, type_: str) -> int:
        """How many chunks of a type are stored."""
        return len(self.points.get(UNPREFIXED.vectors(type_), ()))


@dataclass(frozen=True, slots=True)
class WithoutEmbedding:
    """Stands in for an embedder where vectors are not compared: its name, and no work."""

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One and the same unit vector for every text."""
        return np.full((len(texts), self.dimension), self.dimension**-0.5, dtype=np.float32)


def expected_state(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
    chunker: Chunker,
    embedder: TextEmbedder,
    most_chunks: int = MAX_CHUNKS,
) -> State:
    """The points that a fresh sync of `documents` stores.

    :param documents: (collection, document with its `_id`): the final state of MongoDB
    :param embedder: the flow's own, or `WithoutEmbedding` to leave vectors out
    :param most_chunks: of a document
    :returns: the state; a document that the flow would send to the dead letters is not in it
    """
    with_vectors = not isinstance(embedder, WithoutEmbedding)
    points: dict[str, dict[str, Point]] = {}
    for change in prepared(documents, chunker, most_chunks=most_chunks):
        fresh = fresh_points(change, embedder.name)
        records = points.setdefault(UNPREFIXED.cleaned(change.key.type), {})
        records[record_id(*change.key)] = Point(fresh.record)
        chunks = points.setdefault(UNPREFIXED.vectors(change.key.type), {})
        vectors: Iterable[Vectors | None] = repeat(None)
        if with_vectors:
            vectors = embedder.encode([embedded_text(chunk) for chunk in fresh.chunks.values()])
        for (id_, payload), vector in zip(fresh.chunks.items(), vectors, strict=with_vectors):
            sparse = chunk_weights(embedded_text(payload)) if with_vectors else None
            chunks[id_] = Point(payload, vector, sparse if sparse != NO_TERMS else None)
    return State(points, with_vectors)


def stored_state(
    client: QdrantClient, *, with_vectors: bool, collections: Collections = UNPREFIXED
) -> State:
    """The points that the store holds now of every document type.

    :raises STORE_ERRORS of connectors.qdrant: the server does not answer, or refuses
    """
    points = {
        plain: dict(_points(client, name, with_vectors))
        for type_ in DOCUMENT_TYPES
        for plain, name in (
            (UNPREFIXED.cleaned(type_), collections.cleaned(type_)),
            (UNPREFIXED.vectors(type_), collections.vectors(type_)),
        )
        if client.collection_exists(name)
    }
    return State(points, with_vectors)


def compare(expected: State, stored: State, cosine: float = COSINE) -> list[str]:
    """How `stored` differs from `expected`, a line for each point; empty when in sync."""
    with_vectors = expected.with_vectors and stored.with_vectors
    lines: list[str] = []
    for name in sorted({*expected.points, *stored.points}):
        want, have = expected.points.get(name, {}), stored.points.get(name, {})
        lines += [f"{name}: {_label(want[id_])} is missing" for id_ in want if id_ not in have]
        lines += [f"{name}: {_label(have[id_])} is too much" for id_ in have if id_ not in want]
        for id_ in (id_ for id_ in want if id_ in have):
            difference = _payload_difference(want[id_].payload, have[id_].payload)
            if with_vectors and not difference:
                difference = _vector_difference(
                    want[id_].vector, have[id_].vector, cosine
                ) or _sparse_difference(want[id_].sparse, have[id_].sparse)
            if difference:
                lines.append(f"{name}: {_label(want[id_])} has {difference}")
    return lines


def prepared(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
    chunker: Splitter,
    version: int = 0,
    most_chunks: int = MAX_CHUNKS,
) -> Iterator[Upsert]:
    """The chunks that the steps before the index step make; none of a poison document."""
    cut = chunk(lambda: chunker, most_chunks)
    for collection, document in documents:
        change = CapturedChange("snapshot", collection, version, document["_id"], document)
        message = ChangeEvent.from_change(change).to_message("")
        try:
            # Through the wire format, since JSON does not keep every BSON value as it is.
            made = cut(clean(decode(Delivery("", message.body, message.headers))))
        except Exception:  # noqa: BLE001, S112 (`attempt` takes any as the document's fault)
            continue
        if isinstance(made, Upsert):
            yield made


def _points(
    client: QdrantClient, collection: str, with_vectors: bool
) -> Iterator[tuple[str, Point]]:
    for record in scroll(client, collection, with_vectors=with_vectors):
        yield str(record.id), point_of(record)


def point_of(record: q.Record) -> Point:
    """A point as it was read."""
    vectors = record.vector if isinstance(record.vector, dict) else {}
    dense, sparse = vectors.get(VECTOR_NAME), vectors.get(SPARSE_NAME)
    return Point(
        record.payload or {},
        np.asarray(dense, dtype=np.float32) if dense is not None else None,
        _weights(sparse) if isinstance(sparse, q.SparseVector) else None,
    )


def _weights(sparse: q.SparseVector) -> SparseWeights | None:
    pairs = sorted(zip(sparse.indices, sparse.values, strict=True))
    indices, values = zip(*pairs, strict=True) if pairs else ((), ())
    return SparseWeights(indices, values) if pairs else None


def _payload_difference(want: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {have.get(key)!r:.60} instead of {wanted!r:.60}"
        for key, wanted in difference(want, have).items()
    )


def _vector_difference(want: Vectors | None, have: Vectors | None, cosine: float) -> str:
    if want is None or have is None:
        return "" if want is have else f"{'a' if want is None else 'no'} vector"
    if want.shape != have.shape:
        return f"a vector of {have.size} components instead of {want.size}"
    similarity = float(want @ have)
    return "" if similarity >= cosine else f"another vector: cosine {similarity:.4f}"


def _sparse_difference(want: SparseWeights | None, have: SparseWeights | None) -> str:
    if want is None or have is None:
        return "" if want is have else f"{'a' if want is None else 'no'} sparse vector"
    same = want.indices == have.indices and np.allclose(want.values, have.values, rtol=1e-5)
    return "" if same else "another sparse vector"


def _label(point: Point) -> str:
    payload = point.payload
    place = f" chunk {payload['content']!r:.60}" if "content" in payload else ""
    return f"{payload.get('entry_id')!r:.60}{place}"
