"""Searches by meaning and by words, and how both are fused."""

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import FrozenInstanceError
from typing import Any
from uuid import UUID

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import QdrantStore, vectors_of
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from retrieval import search as command
from retrieval.aio import AsyncRetrievalClient
from retrieval.client import RetrievalClient
from retrieval.fusion import K, by_score, fused
from retrieval.hits import Hit
from retrieval.options import Wanted
from tests.unit.test_retrieval import DIMENSION, HashingEmbedder, Watched, create, put, put_chunk
from tests.unit.test_upgrade import make_old


def hit(number: int, score: float = 0.0) -> Hit:
    id_ = str(UUID(int=number))
    return Hit(score, "posts", str(number), None, None, None, None, None, "text", id_)


class Counted(HashingEmbedder):
    """Knows how many texts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode(self, texts: Any) -> Any:
        self.encoded += len(texts)
        return super().encode(texts)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        for type_ in ("posts", "articles"):
            create(client, type_)
        put(client, "posts", 1, "ships sail on the sea", path="a.md")
        put(client, "posts", 2, "trains run on rails", author_id="bob", path="b.md")
        put(client, "posts", 3, "call getUserName first 🎉", path="b.md")
        put(client, "articles", 4, "ships sail", platform="paper")
        yield client


@pytest.fixture
def retrieval(client: QdrantClient) -> RetrievalClient:
    return RetrievalClient(client, HashingEmbedder())


def ids(hits: list[Hit]) -> list[int]:
    return [int(one.entry_id) for one in hits]


class TestFusion:
    def test_a_hit_scores_by_its_ranks(self) -> None:
        a, b, c = hit(1, 0.9), hit(2, 0.8), hit(3, 0.1)
        some = fused([a, b], [hit(2, 7.0), c])
        assert [(one.entry_id, one.score) for one in some] == [
            ("2", 1 / (K + 1) + 1 / K),
            ("1", 1 / K),
            ("3", 1 / (K + 1)),
        ]
        assert [(one.dense, one.sparse) for one in some] == [(0.8, 7.0), (0.9, None), (None, 0.1)]

    def test_the_lists_are_long_enough_for_the_hits_that_are_wanted(self) -> None:
        """What endless lists would give is all in the lists that are asked for."""
        chance = random.Random(1)
        for _ in range(300):
            end = chance.choice([1, 2, 5, 10, 40])
            dense = [hit(n) for n in chance.sample(range(500), 400)]
            sparse = [hit(n) for n in chance.sample(range(500), 400)]
            depth = Wanted(limit=end).depth
            asked = {one.id for one in (*dense[:depth], *sparse[:depth])}
            best = fused(dense, sparse)
            assert {one.id for one in best[:end] if one.score > best[end].score} <= asked

    def test_no_list_is_longer_than_a_strict_server_allows(self) -> None:
        assert [Wanted(limit=limit).depth for limit in (1, 10, 499, 600, 1000, 2000)] == [
            *(32, 32, 1000, 1000, 1000, 2000)
        ]

    def test_equal_scores_have_one_order(self) -> None:
        some = [hit(n, 0.5) for n in range(9)]
        assert by_score(some) == by_score(reversed(some))


class TestModes:
    def test_words_find_what_meaning_does_not(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        for number in range(10, 40):
            put(client, "posts", number, "user name " * number)
        assert 3 not in ids(retrieval.search("user name", mode="dense"))
        assert ids(retrieval.search("getusername", mode="sparse")) == [3]
        assert retrieval.search("getUserName")[0].sparse

    def test_lists_of_all_types_are_fused_and_not_the_fused_lists_of_each(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        """The best of a type of bad hits would be first of both lists of its own."""
        for number in range(50, 55):
            put(client, "posts", number, f"whale {'sea ' * (number - 49)}")
        put(client, "articles", 60, "sea of other words that have nothing to do with it at all")
        hits = retrieval.search("whale sea", limit=6)
        assert ids(hits)[-1] == 60 or 60 not in ids(hits)

    def test_a_search_by_words_needs_no_model(self, client: QdrantClient) -> None:
        embedder = Counted()
        assert RetrievalClient(client, embedder).search("ships", mode="sparse")
        assert embedder.encoded == 0

    def test_scores_of_one_mode_are_those_of_its_list(self, retrieval: RetrievalClient) -> None:
        [first, *_] = retrieval.search("ships sail", mode="dense")
        assert (first.score, first.sparse) == (first.dense, None)
        [first, *_] = retrieval.search("ships sail", mode="sparse")
        assert (first.score, first.dense) == (first.sparse, None)
        both = retrieval.search("ships sail")[0]
        assert both.dense
        assert both.sparse

    def test_hits_are_frozen(self, retrieval: RetrievalClient) -> None:
        with pytest.raises(FrozenInstanceError):
            retrieval.search("ships")[0].score = 1.0  # type: ignore[misc]


class TestOptions:
    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"entry_id": "2"}, {2}),
            ({"path": "b.md"}, {2, 3}),
            ({"path": "b.md", "author_id": "bob"}, {2}),
            (
                {
                    "only": q.Filter(
                        must_not=[
                            q.FieldCondition(key="author_id", match=q.MatchValue(value="ada"))
                        ]
                    )
                },
                {2},
            ),
            ({"min_score": 0.8}, {1, 4}),
            ({"min_score": 2.0}, set()),
        ],
    )
    def test_filters(
        self, retrieval: RetrievalClient, wanted: dict[str, Any], found: set[int]
    ) -> None:
        assert set(ids(retrieval.search("ships sail", **wanted))) == found

    @pytest.mark.parametrize(("mode", "least"), [("dense", 0.99), ("sparse", 1.0)])
    def test_a_least_score_is_of_its_mode(
        self, retrieval: RetrievalClient, mode: Any, least: float
    ) -> None:
        hits = retrieval.search("ships sail", mode=mode)
        some = retrieval.search("ships sail", mode=mode, min_score=least)
        assert some == [one for one in hits if one.score >= least]
        assert some

    @pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
    def test_pages_follow_each_other(self, client: QdrantClient, mode: Any) -> None:
        for number in range(10, 16):
            put(client, "posts", number, f"ships {'sail ' * (number - 9)}")
        retrieval = RetrievalClient(client, HashingEmbedder())
        whole = retrieval.search("ships sail", mode=mode, limit=6)
        pages = [
            retrieval.search("ships sail", mode=mode, limit=2, offset=offset)
            for offset in (0, 2, 4)
        ]
        assert [one for page in pages for one in page] == whole
        assert retrieval.search("ships sail", mode=mode, offset=1000) == []

    def test_hits_of_one_document_leave_room_for_others(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        """It has more good chunks than a list is long: longer lists are asked for."""
        for number in range(100, 200):
            put_chunk(client, "posts", number, f"ships sail {number}", entry_id="long")
        assert {one.entry_id for one in retrieval.search("ships sail", limit=3)} <= {"long", "4"}
        hits = retrieval.search("ships sail", limit=3, per_document=1)
        assert len({one.entry_id for one in hits}) == 3
        hits = retrieval.search("ships sail", limit=5, per_document=2)
        assert sorted(one.entry_id for one in hits).count("long") == 2
        assert len(retrieval.search("ships sail", limit=50, per_document=1)) == 5

    def test_lists_get_no_longer_without_an_end(self, client: QdrantClient) -> None:
        """Where one document has more good chunks than the longest list."""
        points = [
            q.PointStruct(
                id=number,
                vector={"dense": HashingEmbedder().encode(["ships"])[0].tolist()},
                payload={"type": "posts", "entry_id": "l", "content": "ships", "model": "hashing"},
            )
            for number in range(1000, 2200)
        ]
        client.upsert(vectors_of("posts"), points)
        watched = Watched(client)
        retrieval = RetrievalClient(watched, HashingEmbedder())  # type: ignore[arg-type]
        hits = retrieval.search("ships", mode="dense", types=["posts"], per_document=1)
        assert [one.entry_id for one in hits] == ["l"]
        assert len(watched.calls) < 8


class TestQueries:
    def test_several_cost_one_request_for_each_type_and_find_what_each_finds(
        self, client: QdrantClient
    ) -> None:
        create(client, "repositories")
        watched = Watched(client)
        retrieval = RetrievalClient(watched, HashingEmbedder())  # type: ignore[arg-type]
        queries = ["ships sail", "trains", "getUserName"]
        found = retrieval.search_many(queries, limit=2)
        assert sorted(watched.calls) == [
            ("query_batch_points", vectors_of(type_)) for type_ in sorted(DOCUMENT_TYPES)
        ]
        assert found == [retrieval.search(query, limit=2) for query in queries]
        assert retrieval.search_many([]) == []
        assert len(retrieval.search_many(queries * 30)) == 90
        with pytest.raises(ValueError, match="empty"):
            retrieval.search_many(["ships", ""])

    def test_the_async_twin_finds_the_same(self, retrieval: RetrievalClient) -> None:
        async def search() -> tuple[Any, ...]:
            twin = AsyncRetrievalClient(retrieval)
            hits = await twin.search("ships sail", limit=2)
            rest = await asyncio.gather(
                twin.search_many(["ships"]),
                twin.places(hits),
                twin.contexts(hits),
                twin.documents(hits),
            )
            return hits, *rest

        hits, many, places, contexts, documents = asyncio.run(search())
        assert hits == retrieval.search("ships sail", limit=2)
        assert many == retrieval.search_many(["ships"])
        assert places == retrieval.places(hits)
        assert contexts == retrieval.contexts(hits)
        assert documents == retrieval.documents(hits)

    @pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
    def test_a_long_query_is_answered(self, retrieval: RetrievalClient, mode: Any) -> None:
        text = " ".join(f"word{number} ships sail" for number in range(6000))
        assert len(text) > 100_000
        begun = time.monotonic()
        assert 4 in ids(retrieval.search(text, mode=mode))
        assert time.monotonic() - begun < 20

    def test_an_emoji_is_found_by_words(self, retrieval: RetrievalClient) -> None:
        assert retrieval.search("🎉", mode="sparse")[0].entry_id == "3"
        assert retrieval.search("🎉")[0].sparse is not None

    def test_a_query_without_words_is_searched_by_meaning(self, retrieval: RetrievalClient) -> None:
        assert retrieval.search("?!", mode="sparse") == []
        assert all(one.sparse is None for one in retrieval.search("?!"))


class TestStoresWithoutSparseVectors:
    @pytest.fixture
    def old(self) -> Iterator[QdrantClient]:
        with closing(QdrantClient(":memory:")) as client:
            make_old(client, DIMENSION)
            for number, text in enumerate(("ships sail", "trains run")):
                put_old(client, number + 1, text)
            yield client

    def test_are_searched_by_meaning_and_said_to_be(
        self, old: QdrantClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        retrieval = RetrievalClient(old, HashingEmbedder())
        for _ in range(2):
            assert ids(retrieval.search("ships sail", limit=1)) == [1]
        assert retrieval.dense_only == set(DOCUMENT_TYPES)
        assert sum("make reconcile" in line for line in caplog.messages) == len(DOCUMENT_TYPES)

    def test_cannot_be_searched_by_words(self, old: QdrantClient) -> None:
        with pytest.raises(ConfigurationError, match="make reconcile"):
            RetrievalClient(old, HashingEmbedder()).search("ships", mode="sparse")

    def test_are_searched_by_words_as_soon_as_they_are_upgraded(self, old: QdrantClient) -> None:
        retrieval = RetrievalClient(old, HashingEmbedder())
        assert retrieval.search("ships sail")[0].sparse is None
        QdrantStore(old, DOCUMENT_TYPES).add_sparse(["posts"])
        assert retrieval.search("ships sail")[0].sparse
        assert retrieval.dense_only == {"articles", "repositories"}
        assert ids(retrieval.search("ships", mode="sparse")) == [1]


def put_old(client: QdrantClient, number: int, text: str) -> None:
    vector: Any = {"dense": HashingEmbedder().encode([text])[0].tolist()}
    payload = {"type": "posts", "entry_id": str(number), "content": text, "model": "hashing"}
    client.upsert(vectors_of("posts"), [q.PointStruct(id=number, vector=vector, payload=payload)])


def test_a_prompt_answers_until_its_end_with_one_model(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Counted] = []

    def make(*_: object) -> Counted:
        made.append(Counted())
        return made[-1]

    lines = iter(["ships sail", "getUserName", "\N{ESCAPE}[31mred", ""])
    monkeypatch.setattr(command, "open_reader", lambda _: nullcontext(client))
    monkeypatch.setattr(command, "Embedder", make)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert command.main(["--limit", "1"]) == 0
    assert [embedder.encoded for embedder in made] == [3]
    printed = capsys.readouterr()
    assert "ships sail" in printed.out
    assert "getUserName" in printed.out
    monkeypatch.setattr("builtins.input", raise_end_of_file)
    assert command.main([]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ships", "--limit", "0"], "limit must be 1 or more, not 0"),
        (["ships", "--offset", "-1"], "offset must be 0 or more, not -1"),
        (["ships", "--per-document", "0"], "per_document must be 1 or more, not 0"),
        (["ships", "--published-after", "soon"], "published_after must be a date"),
        (["ships", "--updated-before", "2024-02-30"], "updated_before must be a date"),
        (["ships", "--diversity", "2"], "diversity must be from 0 to 1, not 2.0"),
        (["ships", "--diversity", "1", "--offset", "50"], "raise candidates"),
    ],
)
def test_the_command_refuses_what_makes_no_sense_in_one_line(
    client: QdrantClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.setattr(command, "open_reader", lambda _: nullcontext(client))
    monkeypatch.setattr(command, "Embedder", lambda *_: Counted())
    assert command.main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err


def raise_end_of_file(_: object) -> str:
    raise EOFError
