"""Merging the lists of a hybrid search into one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from retrieval.ask import Found
from retrieval.hits import Hit
from retrieval.options import DEEPEST, Wanted

K: Final = 2
"""Of reciprocal rank fusion: how much the first ranks count. See docs/quality.md, Retrieval."""


def by_score(hits: Iterable[Hit]) -> list[Hit]:
    """The best first, in an order that does not change where scores are equal."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.type, hit.entry_id, hit.id))


def fused(dense: Sequence[Hit], sparse: Sequence[Hit], k: int = K) -> list[Hit]:
    """Reciprocal rank fusion: a hit scores 1 / (k + rank) in each list that has it, from rank 0.

    :param dense: the best of all types by meaning, `score` the similarity
    :param sparse: the best of all types by words, `score` the sum of BM25
    """
    found: dict[tuple[str, str], Hit] = {}
    for rank, hit in enumerate(dense):
        found[hit.type, hit.id] = replace(hit, score=1 / (k + rank), dense=hit.score)
    for rank, hit in enumerate(sparse):
        other = found.get((hit.type, hit.id))
        score = 1 / (k + rank) + (other.score if other else 0)
        found[hit.type, hit.id] = replace(other or hit, score=score, sparse=hit.score)
    return by_score(found.values())


def merged(found: Sequence[Found], wanted: Wanted, depth: int) -> list[Hit] | None:
    """The hits of which the page is chosen, of what was found in each type.

    :param depth: of the lists
    :returns: None where the lists have to be longer to tell
    """
    # Beyond it, a list lacks what a type was not asked for. Where one document has all of the
    # longest lists, the documents of other types that were found are worth more than that order.
    end = None if wanted.per_document and depth >= DEEPEST else depth
    dense = by_score(hit for some in found for hit in some.dense)[:end]
    sparse = by_score(hit for some in found for hit in some.sparse)[:end]
    if wanted.mode == "hybrid":
        hits = fused(dense, sparse)
    else:
        hits = [replace(hit, dense=hit.score) for hit in dense]
        hits += [replace(hit, sparse=hit.score) for hit in sparse]
    of_documents = list(_first_of_each(hits, wanted.per_document))
    good = [hit for hit in of_documents if wanted.least is None or hit.score >= wanted.least]
    is_cut = depth in (len(dense), len(sparse)) and depth < DEEPEST
    if is_cut and len(of_documents) < wanted.reach and len(good) == len(of_documents):
        return None
    return good[: wanted.reach]


def _first_of_each(hits: Iterable[Hit], most: int | None) -> Iterator[Hit]:
    """The hits, of each document the first `most`."""
    seen: dict[tuple[str, str], int] = {}
    for hit in hits:
        document = hit.type, hit.entry_id
        seen[document] = seen.get(document, 0) + 1
        if most is None or seen[document] <= most:
            yield hit
