"""The collections as they must be before the first write: their vectors and payload indexes.

Each field that a filter uses is indexed, and no other: a server in strict mode, which is the
default of Qdrant Cloud, refuses a filter on any other field, and an index that serves no filter
costs memory and each write.
"""

import logging
from collections.abc import Iterable, Mapping
from operator import methodcaller
from types import MappingProxyType
from typing import Final
from warnings import catch_warnings, simplefilter

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant.answers import STORE_ERRORS
from connectors.qdrant.names import VECTOR_NAME, Collections
from connectors.qdrant.patient import Ask
from connectors.qdrant.sparse import SPARSE_PARAMS, has_sparse
from models.errors import ConfigurationError
from models.fresh import COUNTED

log = logging.getLogger("connectors")

Indexes = Mapping[str, q.PayloadSchemaType]

_RECORDS: Final[Indexes] = dict.fromkeys(COUNTED, q.PayloadSchemaType.INTEGER)
_CHUNKS: Final[Indexes] = {
    "entry_id": q.PayloadSchemaType.KEYWORD,
    "model": q.PayloadSchemaType.KEYWORD,
    "author_id": q.PayloadSchemaType.KEYWORD,
    "platform": q.PayloadSchemaType.KEYWORD,
    "path": q.PayloadSchemaType.KEYWORD,
    "published_at": q.PayloadSchemaType.DATETIME,
    "updated_at": q.PayloadSchemaType.DATETIME,
    "language": q.PayloadSchemaType.KEYWORD,
    "tags": q.PayloadSchemaType.KEYWORD,
}
_TOMBSTONES: Final[Indexes] = {
    "type": q.PayloadSchemaType.KEYWORD,
    "deleted_at": q.PayloadSchemaType.FLOAT,
}
# Earlier versions made these, for no filter of theirs. Indexes that a person has made stay.
_RETIRED: Final = ("entry_id", "author_id", "platform", "version", "chunk_hash")


def indexes(names: Collections, types: Iterable[str]) -> dict[str, Indexes]:
    """The indexed fields of each collection."""
    made: dict[str, Indexes] = {names.tombstones: _TOMBSTONES}
    for type_ in types:
        made |= {names.cleaned(type_): _RECORDS, names.vectors(type_): _CHUNKS}
    return made


def ensure_schema(ask: Ask, names: Collections, types: Iterable[str], dimension: int) -> None:
    """Create what is missing: collections, and their indexes also where they exist already.

    Chunks of an older collection go without sparse vectors until `make reconcile` adds them.

    :param ask: makes each request
    :param dimension: size of the chunks' vectors
    :raises ConfigurationError: a collection exists with other vectors
    """
    chunks = {names.vectors(type_) for type_ in types}
    dense = {VECTOR_NAME: q.VectorParams(size=dimension, distance=q.Distance.COSINE)}
    for collection, fields in indexes(names, types).items():
        vectors = dense if collection in chunks else {}
        create(ask, collection, vectors, SPARSE_PARAMS if vectors else {})
        info = ask(methodcaller("get_collection", collection))
        if vectors:
            _check_vectors(collection, info, dimension)
            if not has_sparse(info):
                log.warning(
                    "%s has no sparse vectors: it is written and searched without them until make "
                    "reconcile adds them",
                    collection,
                )
        _ensure_indexes(ask, collection, info, fields)


def create(
    ask: Ask,
    collection: str,
    vectors: Mapping[str, q.VectorParams],
    sparse: Mapping[str, q.SparseVectorParams] = MappingProxyType({}),
) -> None:
    """Create a collection, unless it is there."""

    def unless_there(client: QdrantClient) -> None:
        if client.collection_exists(collection):
            return
        try:
            client.create_collection(
                collection, vectors_config=dict(vectors), sparse_vectors_config=dict(sparse)
            )
        except (ValueError, *STORE_ERRORS):
            if not client.collection_exists(collection):  # another process may have been faster
                raise

    ask(unless_there)


def _ensure_indexes(ask: Ask, collection: str, info: q.CollectionInfo, fields: Indexes) -> None:
    have = {field: index.data_type for field, index in info.payload_schema.items()}
    with catch_warnings():
        simplefilter("ignore")  # of a store in memory, which has no indexes
        for field, type_ in fields.items():
            if have.get(field) != type_:
                ask(methodcaller("create_payload_index", collection, field, type_, wait=True))
        for field in have.keys() & set(_RETIRED) - fields.keys():
            ask(methodcaller("delete_payload_index", collection, field, wait=True))


def _check_vectors(collection: str, info: q.CollectionInfo, dimension: int) -> None:
    vectors = info.config.params.vectors
    dense = vectors.get(VECTOR_NAME) if isinstance(vectors, dict) else None
    if dense is None or dense.size != dimension:
        raise ConfigurationError(
            f"Qdrant collection {collection} has no vector {VECTOR_NAME!r} of {dimension} "
            "components, which EMBEDDING_MODEL makes: set the model that it was made with, and "
            "change it by python -m flows.migrate start MODEL"
        )
