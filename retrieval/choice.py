"""Choosing a page of hits from the best of a search: re-ranked, diverse, or as they are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from flows.embedding.embedder import Vectors
from flows.embedding.reranker import PairScorer
from retrieval.diversity import diverse
from retrieval.fusion import by_score
from retrieval.hits import Hit
from retrieval.options import Wanted


def choose(
    queries: Sequence[str],
    candidates: Sequence[Sequence[Hit]],
    wanted: Wanted,
    reranker: PairScorer | None,
    vectors_of: Callable[[Iterable[Hit]], Mapping[str, Vectors]],
) -> list[list[Hit]]:
    """The page that is wanted of the candidates of each query, which are given best first.

    :param vectors_of: reads the vectors of hits, all at once
    :raises ValueError: re-ranking is wanted, and there is no re-ranker
    """
    if wanted.rerank:
        if reranker is None:
            raise ValueError("there is no model to re-rank with: RERANKER_MODEL is not set")
        candidates = [
            _reranked(query, hits, wanted.min_score, reranker)
            for query, hits in zip(queries, candidates, strict=True)
        ]
    if wanted.diversity:
        vectors = vectors_of(hit for hits in candidates for hit in hits)
        candidates = [
            diverse(hits, vectors, wanted.diversity, wanted.end, wanted.candidates)
            for hits in candidates
        ]
    return [list(hits[wanted.offset : wanted.end]) for hits in candidates]


def _reranked(
    query: str, hits: Sequence[Hit], least: float | None, reranker: PairScorer
) -> list[Hit]:
    texts = ["\n".join(filter(None, (hit.context, hit.content))) for hit in hits]
    scores = reranker.scores(query, texts)
    scored = (replace(hit, score=score) for hit, score in zip(hits, scores, strict=True))
    return by_score(hit for hit in scored if least is None or hit.score >= least)
