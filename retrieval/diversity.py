"""Hits that differ from each other: maximal marginal relevance over the candidates of a search.

Done here and not by the server, which knows MMR within one collection only: what it returns is an
order without a score, so the orders of several collections could not be merged, and the fused list
of a hybrid search exists nowhere else.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from flows.embedding.embedder import Vectors
from retrieval.hits import Hit


def diverse(
    hits: Sequence[Hit], vectors: Mapping[str, Vectors], diversity: float, most: int, of: int
) -> list[Hit]:
    """The hits in the order in which each adds most to those before it.

    A hit gains by its relevance, which falls evenly from 1 for the first of `hits`, whatever their
    scores mean, and loses by its similarity to the most similar one that is chosen already. The
    first hit stays first.

    :param hits: best first
    :param vectors: of unit length, by the id of the hit; a hit without one is gone by now
    :param diversity: from 0, the order of `hits`, to 1, where both count the same
    :param most: how many to choose
    :param of: how many `hits` could be: after so many, relevance would be 0
    """
    there = [hit for hit in hits if hit.id in vectors]
    if not there:
        return []
    rows = np.stack([vectors[hit.id] for hit in there])
    relevance = 1 - np.arange(len(there)) / of
    similar = np.zeros(len(there))
    chosen: list[int] = []
    while len(chosen) < min(most, len(there)):
        gain = relevance - diversity * similar
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        similar = np.maximum(similar, rows @ rows[chosen[-1]])
    return [there[index] for index in chosen]
