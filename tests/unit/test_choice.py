"""Pages that are chosen among more hits: by a re-ranker, and by how much they differ."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

import numpy as np
import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import vectors_of
from flows.embedding.reranker import Reranker, locate_reranker
from flows.settings import Settings
from models.errors import ConfigurationError
from retrieval.client import RetrievalClient
from retrieval.diversity import diverse
from retrieval.options import MODES, Wanted
from tests.unit.test_hybrid import hit, ids
from tests.unit.test_retrieval import HashingEmbedder, Watched, create, put


def unit(*components: float) -> Any:
    vector = np.array(components, dtype=np.float32)
    return vector / np.linalg.norm(vector)


class TestDiversity:
    HITS = tuple(hit(number) for number in range(20))
    # Two near copies of the first, one that is somewhat like it, two of other subjects, and many
    # copies of a seventh.
    ROWS = (
        *(unit(1, 0, 0, 0, 0), unit(1, 0.05, 0, 0, 0), unit(1, 0, 0.05, 0, 0)),
        *(unit(1, 1, 0, 0, 0), unit(0, 1, 1, 0, 0), unit(0, 0, 0, 1, 0)),
        *[unit(0, 0, 0, 0, 1)] * 14,
    )
    VECTORS: ClassVar = {one.id: row for one, row in zip(HITS, ROWS, strict=True)}

    def chosen(self, diversity: float, most: int = 20) -> list[int]:
        return ids(diverse(self.HITS, self.VECTORS, diversity, most, 20))

    def test_copies_of_a_hit_come_after_what_is_new(self) -> None:
        assert self.chosen(0.5, 8) == [0, 4, 5, 6, 3, 1, 2, 7]
        assert self.chosen(0.1, 3) == [0, 1, 2]

    def test_without_diversity_the_order_stays_and_with_all_of_it_the_best_is_first(self) -> None:
        assert self.chosen(0.0) == list(range(20))
        assert self.chosen(0.01) == list(range(20))
        assert self.chosen(1.0, 4) == [0, 4, 5, 6]

    def test_what_is_alike_because_it_answers_the_query_stays_before_what_does_not(self) -> None:
        """Where relevance and similarity shared one weight, "message queue" found heaps."""
        hits = [hit(number) for number in range(50)]
        answers = {hit(n).id: unit(1, *(float(n == i) for i in range(50))) for n in range(10)}
        others = {hit(n).id: unit(0, *(float(n == i) for i in range(50))) for n in range(10, 50)}
        assert ids(diverse(hits, answers | others, 0.2, 5, 50)) == [0, 1, 2, 3, 4]
        assert max(ids(diverse(hits, answers | others, 0.5, 9, 50))) < 20
        few = diverse(hits[:12], answers | others, 0.2, 5, 50)
        assert ids(few) == [0, 1, 2, 3, 4]  # however many hits there are

    def test_every_hit_is_chosen_once_and_one_that_is_gone_not_at_all(self) -> None:
        vectors = {id_: vector for id_, vector in self.VECTORS.items() if id_ != hit(3).id}
        assert sorted(ids(diverse(self.HITS, vectors, 0.7, 30, 20))) == [*range(3), *range(4, 20)]
        assert diverse(self.HITS, {}, 0.7, 9, 20) == []

    def test_each_step_is_that_of_the_definition(self) -> None:
        chance = np.random.default_rng(5)
        hits = [hit(number) for number in range(30)]
        vectors = {one.id: unit(*chance.normal(size=8)) for one in hits}
        for diversity in (0.2, 0.5, 0.9):
            left, chosen = list(hits), []
            while left:

                def gain(one: Any, chosen: Any = tuple(chosen), by: float = diversity) -> float:
                    relevance = 1 - hits.index(one) / len(hits)
                    near = [float(vectors[one.id] @ vectors[other.id]) for other in chosen]
                    return relevance - by * max(0.0, *near, 0.0)

                chosen.append(max(left, key=gain))
                left.remove(chosen[-1])
            assert diverse(hits, vectors, diversity, 30, 30) == chosen


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        for type_ in ("posts", "articles"):
            create(client, type_)
        for number in range(1, 5):
            put(client, "posts", number, "ships sail on the sea")
        put(client, "articles", 5, "ships sail on the sea")
        put(client, "articles", 6, "ships carry trains")
        put(client, "articles", 7, "whales sail")
        yield client


@pytest.mark.parametrize("mode", MODES)
def test_a_diverse_page_shows_copies_of_all_types_once(client: QdrantClient, mode: Any) -> None:
    """MMR within each collection would show a copy of each."""
    retrieval = RetrievalClient(client, HashingEmbedder())
    plain = retrieval.search("ships sail on the sea", mode=mode, limit=3)
    assert len({one.content for one in plain}) == 1
    hits = retrieval.search("ships sail on the sea", mode=mode, limit=3, diversity=0.6)
    assert len({one.content for one in hits}) == 3
    assert hits[0] == plain[0]


def test_pages_of_a_diverse_search_follow_each_other(client: QdrantClient) -> None:
    search = RetrievalClient(client, HashingEmbedder()).search
    whole = search("ships sail", limit=6, diversity=0.6)
    pages = [search("ships sail", limit=2, offset=offset, diversity=0.6) for offset in (0, 2, 4)]
    assert [one for page in pages for one in page] == whole


def test_diversity_costs_one_request_for_each_type_and_a_bounded_number_of_vectors(
    client: QdrantClient,
) -> None:
    for number in range(100, 200):
        put(client, "posts", number, f"ships sail {number}")
    watched = Watched(client)
    retrieval = RetrievalClient(watched, HashingEmbedder())  # type: ignore[arg-type]
    retrieval.search_many(["ships", "sail"], diversity=0.5, types=["posts"])
    assert [name for name, _ in watched.calls] == ["query_batch_points", "retrieve"]
    watched.calls.clear()
    retrieval.search("ships", diversity=0, types=["posts"])
    assert {name for name, _ in watched.calls} == {"query_batch_points"}
    assert Wanted(diversity=0.5, candidates=20).reach == 20


def test_hits_that_are_deleted_between_the_requests_are_left_out(client: QdrantClient) -> None:
    class Deleting(Watched):
        def retrieve(self, collection: str, *some: Any, **named: Any) -> Any:
            if collection == vectors_of("articles"):
                client.delete_collection(collection)
            return client.retrieve(collection, *some, **named)

    retrieval = RetrievalClient(Deleting(client), HashingEmbedder())  # type: ignore[arg-type]
    hits = retrieval.search("ships sail", diversity=0.5)
    assert {one.type for one in hits} == {"posts"}


class LongestFirst:
    """Scores by length, as nothing else would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, len(texts)))
        return [float(len(text)) for text in texts]


class TestReranking:
    @pytest.fixture
    def reranker(self) -> LongestFirst:
        return LongestFirst()

    @pytest.fixture
    def retrieval(self, client: QdrantClient, reranker: LongestFirst) -> RetrievalClient:
        return RetrievalClient(client, HashingEmbedder(), reranker=reranker)

    @pytest.mark.parametrize("mode", MODES)
    def test_the_re_ranker_decides_the_order_of_the_candidates(
        self, retrieval: RetrievalClient, mode: Any
    ) -> None:
        hits = retrieval.search("whales ships sail", mode=mode, limit=7)
        plain = retrieval.search("whales ships sail", mode=mode, limit=7, rerank=False)
        assert {one.id for one in hits} == {one.id for one in plain}
        assert [one.score for one in hits] == sorted((one.score for one in hits), reverse=True)
        assert hits[0].score == len("ships sail on the sea")
        assert hits[-1].content == "whales sail"
        assert [one.score for one in plain] != [one.score for one in hits]
        by_id = {one.id: one for one in plain}
        for one in hits:
            assert (one.dense is None) == (by_id[one.id].dense is None)
            assert (one.sparse is None) == (by_id[one.id].sparse is None)

    def test_a_least_score_is_that_of_the_re_ranker(self, retrieval: RetrievalClient) -> None:
        hits = retrieval.search("ships", mode="dense", min_score=18.0, limit=9)
        assert {one.content for one in hits} == {"ships sail on the sea", "ships carry trains"}

    def test_no_more_than_the_candidates_are_scored(
        self, retrieval: RetrievalClient, reranker: LongestFirst
    ) -> None:
        assert len(retrieval.search("ships sail", limit=2, candidates=3)) == 2
        assert reranker.asked == [("ships sail", 3)]
        assert retrieval.search("ships", author_id="nobody") == []

    def test_each_query_is_scored_with_its_own_hits(
        self, retrieval: RetrievalClient, reranker: LongestFirst
    ) -> None:
        both = retrieval.search_many(["ships", "whales"], diversity=0.3)
        assert [query for query, _ in reranker.asked] == ["ships", "whales"]
        assert both == [retrieval.search(query, diversity=0.3) for query in ("ships", "whales")]

    def test_what_cannot_be_chosen_is_refused_in_one_line(self, client: QdrantClient) -> None:
        search = RetrievalClient(client, HashingEmbedder()).search
        with pytest.raises(ValueError, match="RERANKER_MODEL is not set"):
            search("ships", rerank=True)
        with pytest.raises(ValueError, match=r"offset \+ limit is 60, .* raise candidates"):
            search("ships", diversity=0.5, offset=55)
        assert search("ships", diversity=0.5, offset=55, candidates=60) == []
        for diversity in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="diversity must be from 0 to 1"):
                search("ships", diversity=diversity)
        with pytest.raises(ValueError, match="candidates must be 1 or more"):
            search("ships", candidates=0)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "no cross-encoder in"),
        ("", "no cross-encoder in"),
        ("[]", "no cross-encoder in"),
        ("{}", "no cross-encoder in"),
        ('{"architectures": null}', "no cross-encoder in"),
        ('{"architectures": []}', "no architecture"),
        ('{"architectures": ["BertModel"]}', "is BertModel, not …ForSequenceClassification"),
    ],
)
def test_a_folder_without_a_cross_encoder_is_one_line_before_anything_is_loaded(
    tmp_path: Any, config: str | None, problem: str
) -> None:
    """The library would put random weights on the embedding model, and order hits by chance."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"RERANKER_MODEL": str(tmp_path)})
    line = str(refused.value)
    assert line.startswith(f"RERANKER_MODEL={tmp_path}: ")
    assert problem in line
    assert "\n" not in line
    with pytest.raises(FileNotFoundError):
        Reranker(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert locate_reranker(str(tmp_path)) == tmp_path
    assert Settings.from_env({"RERANKER_MODEL": str(tmp_path)}).reranker_model == str(tmp_path)


def test_chance_does_not_decide_between_equal_scores() -> None:
    class Same:
        def scores(self, _query: str, texts: Sequence[str]) -> list[float]:
            return [0.5] * len(texts)

    from retrieval.choice import choose

    hits = [hit(number) for number in range(9)]
    orders = [random.Random(seed).sample(hits, 9) for seed in range(5)]
    wanted = Wanted(rerank=True, limit=9)
    pages = [choose(["q"], [order], wanted, Same(), lambda _: {})[0] for order in orders]
    assert all(ids(page) == ids(pages[0]) for page in pages)
