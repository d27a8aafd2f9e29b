"""What is stored and not found by searches, counted without reading a point."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant.names import Collections
from connectors.qdrant.sparse import LACKING, has_sparse
from models.fresh import COUNTED

_VALUES: Final = 1000
"""Different numbers of one field that are told apart."""


class Unsearched(NamedTuple):
    """Over all document types."""

    machine_files: int = 0
    """Files of repositories that have no chunks."""
    chunks_left_out: int = 0
    """Chunks beyond the most that a document may have."""
    cut_documents: int = 0
    """Documents that have such chunks."""
    without_sparse: int = 0
    """Chunks without a sparse vector: they have no word, or are of an earlier version."""


def count_unsearched(client: QdrantClient, names: Collections, types: Iterable[str]) -> Unsearched:
    """Count for some document types.

    :raises STORE_ERRORS: the server does not answer, or refuses
    """
    files = chunks = documents = lacking = 0
    for type_ in types:
        records, vectors = names.cleaned(type_), names.vectors(type_)
        if client.collection_exists(records):
            of_files, of_chunks = (_numbers(client, records, field) for field in COUNTED)
            files += sum(value * count for value, count in of_files.items())
            chunks += sum(value * count for value, count in of_chunks.items())
            documents += sum(of_chunks.values())
        if client.collection_exists(vectors):
            only = LACKING if has_sparse(client.get_collection(vectors)) else None
            lacking += client.count(vectors, only).count
    return Unsearched(files, chunks, documents, lacking)


def _numbers(client: QdrantClient, collection: str, field: str) -> dict[int, int]:
    """How many records have each number in a field; none before the field is indexed."""
    index = client.get_collection(collection).payload_schema.get(field)
    if index is None or index.data_type != q.PayloadSchemaType.INTEGER:
        return {}
    hits = client.facet(collection, field, limit=_VALUES, exact=True).hits
    return {int(hit.value): hit.count for hit in hits}
