"""Which hits stand on which page."""

from collections.abc import Sequence

import pytest

from retrieval.ask import Found
from retrieval.choice import choose
from retrieval.fusion import merged
from retrieval.hits import Hit
from retrieval.options import DEEPEST, FARTHEST, Wanted


def hit(document: str, score: float, type_: str = "posts", chunk: int = 0) -> Hit:
    id_ = f"{document}/{chunk}"
    return Hit(score, type_, document, None, None, None, None, None, document, id_)


def found(wanted: Wanted, *types: Found) -> list[Hit]:
    """What a client finds in types that hold these lists."""
    depth = wanted.depth
    while True:
        cut = [Found(some.dense[:depth], some.sparse[:depth]) for some in types]
        hits = merged(cut, wanted, depth)
        if hits is not None:
            return hits
        depth = min(4 * depth, DEEPEST)


def names(hits: Sequence[Hit]) -> list[str]:
    return [one.entry_id for one in hits]


@pytest.mark.parametrize("rank", range(8, 40))
def test_pages_of_a_hybrid_search_follow_each_other(rank: int) -> None:
    """A chunk that is high in one list and at some rank in the other."""
    dense = [hit(f"D{n:02}", 0.9 - n / 100) for n in range(60)]
    sparse = [hit(f"S{n:02}", 30.0 - n / 10) for n in range(60)]
    sparse[rank] = hit("D03", sparse[rank].score)

    def page(offset: int, limit: int) -> list[str]:
        wanted = Wanted(limit=limit, offset=offset)
        return names(found(wanted, Found(dense, sparse))[wanted.offset : wanted.end])

    whole = page(0, 15)
    assert [name for offset in (0, 5, 10) for name in page(offset, 5)] == whole
    assert page(0, 1) == whole[:1]


def test_candidates_are_of_as_many_documents_on_each_page() -> None:
    """One long document has most of the best chunks; the answers stand behind it."""
    few = [hit(f"a{n}", 0.99 - n / 1000) for n in range(5)]
    long = [hit("long", 0.9 - n / 10000, chunk=n) for n in range(45)]
    answers = [hit(f"z{n:02}", 0.8 - n / 1000) for n in range(60)]

    class Knows:
        def scores(self, query: str, texts: Sequence[str]) -> list[float]:
            return [10.0 if text in names(answers[:5]) else 0.0 for text in texts]

    shown: list[str] = []
    for offset in (0, 5, 10):
        wanted = Wanted(mode="dense", limit=5, offset=offset, per_document=1, rerank=True)
        candidates = found(wanted, Found([*few, *long, *answers], []))
        assert len(candidates) == wanted.candidates
        [page] = choose(["q"], [candidates], wanted, Knows(), lambda _: {})
        shown += names(page)
    assert shown[:5] == names(answers[:5])
    assert len(set(shown)) == 15


def test_a_document_with_a_thousand_good_chunks_hides_no_other_type() -> None:
    long = [hit("mono", 0.9 - n / 1e5, "repositories", n) for n in range(5000)]
    posts = [hit(f"p{n}", 0.6 - n / 1000) for n in range(20)]
    wanted = Wanted(mode="dense", limit=5, per_document=1)
    assert names(found(wanted, Found(long, []), Found(posts, []))) == ["mono", *names(posts[:4])]


@pytest.mark.parametrize(
    "options",
    [{"limit": FARTHEST + 1}, {"offset": FARTHEST}, {"candidates": 10**18, "rerank": True}],
)
def test_a_search_does_not_look_for_more_than_a_server_has_room_for(
    options: dict[str, int],
) -> None:
    with pytest.raises(ValueError, match="must be 10,000 or less, not"):
        Wanted(**options)  # type: ignore[arg-type]
