import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q
from rich.cells import cell_len
from rich.console import Console

from connectors.qdrant import VECTOR_NAME, QdrantSettings, cleaned, open_reader, vectors_of
from connectors.qdrant.sparse import SPARSE_PARAMS, named
from flows.embedding.embedder import Vectors
from flows.settings import VARIABLES
from models import DOCUMENT_TYPES, record_id
from models.errors import OtherModelError, StoreUnavailableError
from models.sparse import chunk_weights
from retrieval import search, status
from retrieval.client import RetrievalClient
from retrieval.hits import Context, Hit, Neighbour, Place

DIMENSION = 64
CLOSED_PORT = 1


class HashingEmbedder:
    """Texts that share words are near each other."""

    dimension = DIMENSION

    def __init__(self, name: str = "hashing") -> None:
        self.name = name

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.sha256(word.encode()).digest()[0] % DIMENSION] += 1
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


def create(client: QdrantClient, type_: str) -> None:
    vectors = {VECTOR_NAME: q.VectorParams(size=DIMENSION, distance=q.Distance.COSINE)}
    client.create_collection(
        vectors_of(type_), vectors_config=vectors, sparse_vectors_config=SPARSE_PARAMS
    )
    client.create_collection(cleaned(type_), vectors_config={})


def put(client: QdrantClient, type_: str, number: int, content: str, **payload: str) -> None:
    """A document of one chunk."""
    put_chunk(client, type_, number, content, **payload)
    record(client, type_, str(number), [str(UUID(int=number))])


def record(client: QdrantClient, type_: str, entry_id: str, chunk_ids: list[str]) -> None:
    payload = {"entry_id": entry_id, "chunk_ids": chunk_ids}
    point = q.PointStruct(id=record_id(type_, entry_id), vector={}, payload=payload)
    client.upsert(cleaned(type_), [point])


def put_chunk(client: QdrantClient, type_: str, number: int, content: str, **payload: str) -> None:
    dense = HashingEmbedder().encode([content])[0].tolist()
    fields = {
        "type": type_,
        "entry_id": str(number),
        "content": content,
        "model": "hashing",
        "author_id": "ada",
        "platform": "blog",
        "link": None,
        "name": None,
        "path": "",
    }
    id_ = str(UUID(int=number))
    vectors = {VECTOR_NAME: dense, **named(chunk_weights(content))}
    point = q.PointStruct(id=id_, vector=vectors, payload=fields | payload)
    client.upsert(vectors_of(type_), [point])


class Watched:
    """Notes every request."""

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(collection: str, *some: Any, **named: Any) -> Any:
            self.calls.append((name, collection))
            return method(collection, *some, **named)

        return call


class TestOpenReader:
    def test_of_a_missing_folder_says_that_nothing_is_stored(self, tmp_path: Path) -> None:
        with (
            pytest.raises(StoreUnavailableError, match="nothing stored yet"),
            open_reader(QdrantSettings(path=tmp_path / "none")),
        ):
            pass
        assert not (tmp_path / "none").exists()


class TestSearch:
    @pytest.fixture
    def client(self) -> Iterator[QdrantClient]:
        with closing(QdrantClient(":memory:")) as client:
            for type_ in ("posts", "articles"):
                create(client, type_)
            put(client, "posts", 1, "ships sail on the sea")
            put(client, "posts", 2, "trains run on rails", author_id="bob")
            put(client, "articles", 1, "ships sail", platform="paper")
            yield client

    def test_merges_types_by_score(self, client: QdrantClient) -> None:
        hits = RetrievalClient(client, HashingEmbedder()).search("ships sail", mode="dense")
        assert [(hit.type, hit.entry_id) for hit in hits] == [
            ("articles", "1"),
            ("posts", "1"),
            ("posts", "2"),
        ]
        assert hits[0].score == hits[0].dense == pytest.approx(1)
        assert hits[0].content == "ships sail"

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"types": ["posts"]}, [("posts", "1"), ("posts", "2")]),
            ({"author_id": "bob"}, [("posts", "2")]),
            ({"platform": "paper"}, [("articles", "1")]),
            ({"author_id": "bob", "platform": "paper"}, []),
            ({"limit": 1}, [("articles", "1")]),
            ({"types": ["repositories"]}, []),
        ],
    )
    def test_filters(
        self, client: QdrantClient, wanted: dict[str, object], found: list[tuple[str, str]]
    ) -> None:
        hits = RetrievalClient(client, HashingEmbedder()).search(
            "ships sail",
            **wanted,  # type: ignore[arg-type]
        )
        assert [(hit.type, hit.entry_id) for hit in hits] == found

    def test_ignores_chunks_of_another_model(self, client: QdrantClient) -> None:
        put(client, "posts", 3, "ships sail", model="other")
        hits = RetrievalClient(client, HashingEmbedder()).search("ships sail")
        assert "3" not in {hit.entry_id for hit in hits}

    def test_says_so_if_all_chunks_are_of_another_model(self, client: QdrantClient) -> None:
        with pytest.raises(OtherModelError, match=r"'hashing'.*'newer'"):
            RetrievalClient(client, HashingEmbedder("newer")).search("ships sail")

    def test_takes_chunks_of_the_same_model_in_another_precision(
        self, client: QdrantClient
    ) -> None:
        put(client, "posts", 3, "ships sail", model="hashing/bfloat16")
        for name in ("hashing", "hashing/bfloat16", "hashing/float16"):
            assert len(RetrievalClient(client, HashingEmbedder(name)).search("ships")) == 4

    def test_equal_scores_come_in_an_order_that_does_not_change(self, client: QdrantClient) -> None:
        for number in (33, 31, 32):
            put_chunk(client, "posts", number, "whales sing", entry_id="w")
        hits = RetrievalClient(client, HashingEmbedder()).search("whales sing", limit=3)
        assert [hit.id for hit in hits] == [str(UUID(int=number)) for number in (31, 32, 33)]

    def test_hits_cost_one_request_for_each_type_and_nothing_else(
        self, client: QdrantClient
    ) -> None:
        """It was nine: three looks for collections, three queries, three reads of records."""
        create(client, "repositories")  # a missing collection costs a look for a migration
        watched = Watched(client)
        retrieval = RetrievalClient(watched, HashingEmbedder())  # type: ignore[arg-type]
        hits = retrieval.search("ships sail")
        assert sorted(watched.calls) == [
            ("query_batch_points", vectors_of(type_)) for type_ in sorted(DOCUMENT_TYPES)
        ]
        watched.calls.clear()
        retrieval.search("ships sail", types=["posts", "posts"])
        assert watched.calls == [("query_batch_points", vectors_of("posts"))]
        watched.calls.clear()
        retrieval.places(hits)
        kinds = ("articles", "posts")
        assert sorted(watched.calls) == [("retrieve", cleaned(type_)) for type_ in kinds]
        watched.calls.clear()
        put(client, "posts", 1, "ships sail on the sea")
        for number in (41, 42):
            put_chunk(client, "posts", number, "left and right", entry_id="1")
        record(client, "posts", "1", [str(UUID(int=number)) for number in (41, 1, 42)])
        retrieval.contexts(hits)
        assert sorted(watched.calls) == [
            *(("retrieve", cleaned(type_)) for type_ in kinds),
            ("retrieve", vectors_of("posts")),
        ]

    def test_whether_the_model_is_another_is_asked_only_where_there_are_no_hits(
        self, client: QdrantClient
    ) -> None:
        create(client, "repositories")
        watched = Watched(client)
        retrieval = RetrievalClient(watched, HashingEmbedder())  # type: ignore[arg-type]
        assert retrieval.search("ships", author_id="nobody") == []
        assert {name for name, _ in watched.calls} == {"query_batch_points", "scroll"}

    def test_an_error_other_than_a_missing_collection_is_told(self, client: QdrantClient) -> None:
        class Failing(Watched):
            def query_batch_points(self, collection: str, requests: Any) -> object:
                if collection == vectors_of("articles"):
                    raise ValueError("no such filter")
                return client.query_batch_points(collection, requests)

        retrieval = RetrievalClient(Failing(client), HashingEmbedder())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no such filter"):
            retrieval.search("ships")

    @pytest.mark.parametrize(
        ("query", "wanted", "problem"),
        [
            (" ", {}, "empty"),
            ("ships", {"limit": 0}, "limit"),
            ("ships", {"offset": -1}, "offset"),
            ("ships", {"per_document": 0}, "per_document"),
            ("ships", {"mode": "magic"}, "magic"),
            ("ships", {"types": ["songs"]}, "songs"),
        ],
    )
    def test_refuses_what_makes_no_sense(
        self, client: QdrantClient, query: str, wanted: dict[str, object], problem: str
    ) -> None:
        with pytest.raises(ValueError, match=problem):
            RetrievalClient(client, HashingEmbedder()).search(query, **wanted)  # type: ignore[arg-type]


class TestPlaces:
    """Where a hit stands is asked of the record, when somebody wants to know it."""

    WORDS = ("zero", "one whale", "two", "three", "four whale")

    @pytest.fixture
    def client(self) -> Iterator[QdrantClient]:
        """One document of five chunks; its points are not in the order of the document."""
        with closing(QdrantClient(":memory:")) as client:
            for type_ in ("posts", "articles"):
                create(client, type_)
            for number, content in enumerate(self.WORDS):
                put_chunk(client, "posts", 90 - number, content, entry_id="w", path=f"{number}.md")
            record(client, "posts", "w", self.ids())
            yield client

    @pytest.fixture
    def retrieval(self, client: QdrantClient) -> RetrievalClient:
        return RetrievalClient(client, HashingEmbedder())

    def ids(self) -> list[str]:
        return [str(UUID(int=90 - number)) for number in range(len(self.WORDS))]

    def hits(self, retrieval: RetrievalClient) -> list[Hit]:
        """Those of "whale", in the order of the document."""
        hits = retrieval.search("whale", limit=2)
        return sorted(hits, key=lambda hit: hit.path or "")

    def test_a_hit_is_given_its_place(self, retrieval: RetrievalClient) -> None:
        assert retrieval.places(self.hits(retrieval)) == [Place(1, 5), Place(4, 5)]
        assert retrieval.places([]) == []

    def test_hits_of_several_types_are_given_theirs_in_the_order_of_the_hits(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        put(client, "articles", 7, "whale whale")
        record(client, "posts", "7", [str(UUID(int=number)) for number in (1, 7)])  # not this one's
        hits = retrieval.search("whale", limit=3)
        assert {hit.type for hit in hits} == {"posts", "articles"}
        want = {
            str(UUID(int=7)): Place(0, 1),
            self.ids()[1]: Place(1, 5),
            self.ids()[4]: Place(4, 5),
        }
        for some in (hits, hits[::-1], [*hits, *hits]):
            assert retrieval.places(some) == [want[hit.id] for hit in some]

    def test_neighbours_come_with_it_in_their_order(self, retrieval: RetrievalClient) -> None:
        zero, one, two, three, _ = (
            Neighbour(number, f"{number}.md", content) for number, content in enumerate(self.WORDS)
        )
        hits = self.hits(retrieval)
        assert retrieval.contexts(hits) == [
            Context(Place(1, 5), (zero,), (two,)),
            Context(Place(4, 5), (three,), ()),
        ]
        assert retrieval.contexts(hits, before=9, after=0) == [
            Context(Place(1, 5), (zero,), ()),
            Context(Place(4, 5), (zero, one, two, three), ()),
        ]
        assert retrieval.contexts(hits, before=0, after=9)[1] == Context(Place(4, 5), (), ())
        assert retrieval.contexts(hits[:1], before=0, after=0) == [Context(Place(1, 5), (), ())]

    def test_a_hit_that_its_record_does_not_name_has_no_place(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        """The document is edited, or was, since the search."""
        hits = self.hits(retrieval)
        record(client, "posts", "w", self.ids()[2:])
        assert retrieval.places(hits) == [None, Place(2, 3)]
        found = retrieval.contexts(hits)
        assert found[0] is None
        assert [one.content for one in found[1].before] == ["three"] if found[1] else False

    def test_a_hit_of_a_document_that_is_gone_has_no_place(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        hits = self.hits(retrieval)
        client.delete(cleaned("posts"), [record_id("posts", "w")])
        assert retrieval.places(hits) == retrieval.contexts(hits) == [None, None]
        client.delete_collection(cleaned("posts"))
        assert retrieval.places(hits) == retrieval.contexts(hits) == [None, None]

    def test_a_neighbour_that_is_gone_is_left_out(
        self, client: QdrantClient, retrieval: RetrievalClient
    ) -> None:
        """Removed between the record and the chunks: the others keep their places."""
        client.delete(vectors_of("posts"), [self.ids()[3]])
        [found] = retrieval.contexts(self.hits(retrieval)[1:], before=2)
        assert found is not None
        assert [one.position for one in found.before] == [2]

    @pytest.mark.parametrize("around", [{"before": -1}, {"after": -1}])
    def test_a_negative_number_of_neighbours_is_refused(
        self, retrieval: RetrievalClient, around: dict[str, int]
    ) -> None:
        with pytest.raises(ValueError, match="-1"):
            retrieval.contexts(self.hits(retrieval), **around)

    def test_json_says_the_place_of_each_hit_and_text_does_not_ask(
        self,
        client: QdrantClient,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        watched = Watched(client)
        monkeypatch.setattr(search, "open_reader", lambda _: nullcontext(watched))
        monkeypatch.setattr(search, "Embedder", lambda *_: HashingEmbedder())
        assert search.main(["whale", "--limit", "2"]) == 0
        asked = {name for name, _ in watched.calls} - {"collection_exists"}  # of `models`
        assert asked == {"query_batch_points"}
        capsys.readouterr()
        record(client, "posts", "w", self.ids()[2:])
        assert search.main(["whale", "--limit", "2", "--json"]) == 0
        assert [name for name, _ in watched.calls].count("retrieve") == 1
        printed = json.loads(capsys.readouterr().out)
        assert {hit["path"]: hit["position"] for hit in printed} == {"1.md": None, "4.md": 2}
        assert list(printed[0]) == [
            *("score", "type", "entry_id", "author_id", "platform", "link", "name", "path"),
            *("content", "dense", "sparse", "context", "published_at", "updated_at"),
            *("language", "tags", "position"),
        ]


class TestCommands:
    """Neither command needs more than the store to tell what is wrong."""

    @pytest.fixture(autouse=True)
    def nothing_configured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("q", raising=False)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("environment", "arguments", "told"),
        [
            ({}, [], "no query"),
            ({}, ["ships"], "nothing stored yet"),
            ({"q": "ships"}, [], "no query"),
            ({"QDRANT_URL": f"http://127.0.0.1:{CLOSED_PORT}"}, ["ships"], "refused"),
            ({"QDRANT_URL": "nonsense"}, ["ships"], "QDRANT_URL"),
            ({"RABBITMQ_PORT": "x"}, ["ships"], "RABBITMQ_PORT"),
        ],
    )
    def test_search_fails_in_one_line(
        self,
        environment: dict[str, str],
        arguments: list[str],
        told: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert search.main(arguments) == 1
        out, err = capsys.readouterr()
        assert not out
        assert told in err
        assert err.count("\n") == 1

    def test_status_shows_each_system_that_is_away_in_a_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MONGO_DATABASE_HOST", f"mongodb://127.0.0.1:{CLOSED_PORT}")
        monkeypatch.setenv("RABBITMQ_PORT", str(CLOSED_PORT))
        monkeypatch.setenv("QDRANT_URL", f"http://127.0.0.1:{CLOSED_PORT}")
        assert status.main() == 1
        lines = capsys.readouterr().out.splitlines()
        for system in ("MongoDB", "RabbitMQ", "Qdrant"):
            assert len([line for line in lines if line.startswith(system)]) == 1

    def test_shows_hits_within_the_width_of_the_screen(self) -> None:
        output = io.StringIO()
        prose = Hit(0.5, "posts", "1", "林", "知乎", "https://x", None, "", "变更流" * 80, "3")
        code = Hit(
            0.4, "repositories", "2", "o", None, None, "r", "a.py", "    if x:\n\t\ty\n", "4"
        )
        search.print_hits(Console(file=output, width=60), [prose, code], lines=2)
        lines = output.getvalue().splitlines()
        assert len(lines) == 6
        assert max(cell_len(line) for line in lines) <= 60
        assert lines[-2:] == ["        if x:", "            y"]

    @pytest.mark.parametrize(
        ("name", "context", "heading"),
        [
            ("消息队列与幂等写入", "消息队列与幂等写入", "消息队列与幂等写入 · me"),
            ("On  ships", "On ships > Sails", "On  ships · me · Sails"),
            ("x" * 200, f"{'x' * 96}", f"{'x' * 200} · me"),
            ("bucket", "go/limit.go > func Limited", "bucket · me · go/limit.go > func Limited"),
            (None, "Sails", "blog · me · Sails"),
            (None, None, "blog · me · Content"),
        ],
    )  # fmt: skip
    def test_a_heading_shows_nothing_twice(
        self, name: str | None, context: str | None, heading: str
    ) -> None:
        """The context of each chunk of an article begins with its title, which is its name."""
        output = io.StringIO()
        hit = Hit(
            0.5, "posts", "1", "me", "blog", None, name, "Content", "text", "3", context=context
        )
        search.print_hits(Console(file=output, width=400), [hit])
        assert output.getvalue().splitlines()[0] == f" 0.500  posts · {heading}"
