"""The sparse vectors of stored chunks: written with each chunk, and added to older stores.

A collection that an earlier version has made has dense vectors only. `add_sparse` gives it the name
of the sparse ones, in one step of the server, and then each chunk its vector, made of the text that
is stored with it. The text behind a point id never changes, so it does not matter what flows write
or delete meanwhile, nor how often this is killed and begun again: a vector that is written late is
the same one.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant.answers import STORE_ERRORS, is_gone
from connectors.qdrant.names import SPARSE_NAME
from connectors.qdrant.requests import bounded, size_of_vectors
from connectors.qdrant.scroll import scroll
from models.errors import StoreTooOldError
from models.fresh import embedded_text
from models.sparse import SparseWeights, chunk_weights

log = logging.getLogger("connectors")

SPARSE_PARAMS: Final = {SPARSE_NAME: q.SparseVectorParams(modifier=q.Modifier.IDF)}

_NAMED: Final = q.SparseVectorNameConfig(sparse=q.SparseVectorConfig(modifier=q.Modifier.IDF))
LACKING: Final = q.Filter(must_not=[q.HasVectorCondition(has_vector=SPARSE_NAME)])


def named(weights: SparseWeights) -> dict[str, Any]:
    """A sparse vector by its name; nothing for a text without terms."""
    if not weights.indices:
        return {}
    # As pydantic would make it of the same lists, but it would look at each number.
    indices, values = map(list, weights)
    return {SPARSE_NAME: q.SparseVector.model_construct(indices=indices, values=values)}


def has_sparse(info: q.CollectionInfo) -> bool:
    """Whether chunks of this collection can have sparse vectors."""
    return SPARSE_NAME in (info.config.params.sparse_vectors or {})


def add_sparse(client: QdrantClient, collection: str) -> int:
    """Give every chunk of a collection its sparse vector, while flows write to it or not.

    :returns: how many chunks had none; 0 where there is no such collection
    :raises StoreTooOldError: the server cannot add a vector to a collection that exists
    :raises STORE_ERRORS: the server does not answer, or refuses; call it again
    """
    if not client.collection_exists(collection):
        return 0
    if not has_sparse(client.get_collection(collection)):
        log.info("%s: %d chunks get sparse vectors", collection, client.count(collection).count)
        try:
            client.create_vector_name(collection, SPARSE_NAME, _NAMED)
        except STORE_ERRORS as error:
            # Another process may have been faster.
            if not has_sparse(client.get_collection(collection)):
                if getattr(error, "code", lambda: None)() == grpc.StatusCode.UNIMPLEMENTED:
                    raise StoreTooOldError(
                        f"{collection} has no sparse vectors, and this Qdrant server cannot add "
                        "them, since it is older than 1.18: searches stay dense until a newer "
                        "server runs and reconcile is called again"
                    ) from error
                raise
    total = 0
    # A flow may just have written chunks without knowing of them yet.
    while added := _fill(client, collection):
        total += added
    return total


def _fill(client: QdrantClient, collection: str) -> int:
    some = bounded(_made(client, collection), size_of_vectors)
    return sum(_write(client, collection, points) for points in some)


def _made(client: QdrantClient, collection: str) -> Iterator[q.PointVectors]:
    for record in scroll(client, collection, LACKING):
        if vector := named(chunk_weights(embedded_text(record.payload or {}))):
            yield q.PointVectors(id=record.id, vector=vector)


def _write(client: QdrantClient, collection: str, points: Sequence[q.PointVectors]) -> int:
    """Write vectors; returns how many, without those whose points are gone by now."""
    try:
        client.update_vectors(collection, points, wait=True)
    except (KeyError, *STORE_ERRORS) as error:
        if not (isinstance(error, KeyError) or is_gone(error)):
            raise
        if len(points) == 1:
            return 0
        return sum(_write(client, collection, [point]) for point in points)
    return len(points)
