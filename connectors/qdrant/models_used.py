"""Which models have made the stored vectors."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from qdrant_client import QdrantClient

from connectors.qdrant.names import Collections

_MODELS: Final = 100
"""Models that are told apart."""


def count_by_model(
    client: QdrantClient, names: Collections, types: Iterable[str]
) -> "Counter[str]":
    """How many chunks of some document types each model has embedded.

    :raises STORE_ERRORS: the server does not answer, or refuses
    """
    counts: Counter[str] = Counter()
    for type_ in types:
        collection = names.vectors(type_)
        if client.collection_exists(collection):
            facet = client.facet(collection, "model", limit=_MODELS, exact=True)
            counts.update({str(hit.value): hit.count for hit in facet.hits})
    return counts
