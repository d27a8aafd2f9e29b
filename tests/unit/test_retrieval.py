import hashlib
import io
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q
from rich.cells import cell_len
from rich.console import Console

from connectors.qdrant import VECTOR_NAME, QdrantSettings, cleaned, open_reader, vectors_of
from flows.embedding.embedder import Vectors
from flows.settings import VARIABLES
from models import record_id
from models.errors import OtherModelError, StoreUnavailableError
from retrieval import search, status
from retrieval.client import Hit, RetrievalClient

DIMENSION = 64
CLOSED_PORT = 1

# A page cache of one page is written out in the middle of the transaction.
KILLED_WRITER = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")
for number in range(100):
    database.execute("INSERT INTO points VALUES (?, ?)", (str(number), bytes(10_000)))
os.kill(os.getpid(), signal.SIGKILL)
"""


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@pytest.fixture
def writer(folder: Path) -> Iterator[QdrantClient]:
    """A store that is open, and so locked, while the test reads it."""
    with closing(QdrantClient(path=str(folder), force_disable_check_same_thread=True)) as client:
        yield client


def create(client: QdrantClient, type_: str) -> None:
    vectors = {VECTOR_NAME: q.VectorParams(size=DIMENSION, distance=q.Distance.COSINE)}
    client.create_collection(vectors_of(type_), vectors_config=vectors)
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
    vector = HashingEmbedder().encode([content])[0].tolist()
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
    point = q.PointStruct(id=id_, vector={VECTOR_NAME: vector}, payload=fields | payload)
    client.upsert(vectors_of(type_), [point])


class TestOpenReader:
    def test_sees_the_last_write_of_a_store_that_is_locked(
        self, folder: Path, writer: QdrantClient
    ) -> None:
        create(writer, "posts")
        put(writer, "posts", 1, "ships sail")
        with open_reader(QdrantSettings(path=folder)) as reader:
            assert reader.count("vector_posts").count == 1
            put(writer, "posts", 2, "ships sink")
            assert reader.count("vector_posts").count == 1
        with open_reader(QdrantSettings(path=folder)) as reader:
            assert reader.count("vector_posts").count == 2

    def test_leaves_the_original_as_it_was(self, folder: Path, writer: QdrantClient) -> None:
        create(writer, "posts")
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        with open_reader(QdrantSettings(path=folder)) as reader:
            copy = Path(reader._client.location)  # type: ignore[attr-defined]
            create(reader, "articles")
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert not copy.exists()

    def test_can_read_while_collections_and_points_are_added(
        self, folder: Path, writer: QdrantClient
    ) -> None:
        create(writer, "posts")
        put(writer, "posts", 0, "first")
        ended = threading.Event()

        def write() -> None:
            for number in range(1, 150):
                put(writer, "posts", number, f"word{number}")
                if number % 15 == 0:
                    create(writer, f"type{number}")
            ended.set()

        thread = threading.Thread(target=write)
        thread.start()
        counts = []
        while not ended.is_set():
            with open_reader(QdrantSettings(path=folder)) as reader:
                counts.append(reader.count("vector_posts").count)
        thread.join()
        assert counts == sorted(counts)
        with open_reader(QdrantSettings(path=folder)) as reader:
            assert reader.count("vector_posts").count == 150
            assert len(reader.get_collections().collections) == 20

    def test_waits_for_a_store_that_is_being_created(self, tmp_path: Path) -> None:
        made, folder = tmp_path / "made", tmp_path / "qdrant"
        with closing(QdrantClient(path=str(made))) as client:
            create(client, "posts")
        folder.mkdir()
        (folder / "meta.json").write_text('{"collections": {"vector_po')

        def complete() -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        timer = threading.Timer(0.2, complete)
        timer.start()
        with open_reader(QdrantSettings(path=folder)) as reader:
            assert reader.collection_exists("vector_posts")
        timer.join()

    def test_of_a_missing_folder_says_that_nothing_is_stored(self, tmp_path: Path) -> None:
        with (
            pytest.raises(StoreUnavailableError, match="nothing stored yet"),
            open_reader(QdrantSettings(path=tmp_path / "none")),
        ):
            pass
        assert not (tmp_path / "none").exists()

    def test_of_an_empty_folder_says_that_nothing_is_stored(self, tmp_path: Path) -> None:
        with (
            pytest.raises(StoreUnavailableError, match="nothing stored yet"),
            open_reader(QdrantSettings(path=tmp_path)),
        ):
            pass
        assert not list(tmp_path.iterdir())

    def test_recovers_what_a_killed_writer_left_half_done(
        self, folder: Path, writer: QdrantClient
    ) -> None:
        create(writer, "posts")
        put(writer, "posts", 1, "ships sail")
        storage = folder / "collection" / "vector_posts" / "storage.sqlite"
        killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(storage)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert storage.with_name("storage.sqlite-journal").stat().st_size > 0
        with open_reader(QdrantSettings(path=folder)) as reader:
            assert reader.count("vector_posts").count == 1


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
        hits = RetrievalClient(client, HashingEmbedder()).search("ships sail")
        assert [(hit.type, hit.entry_id) for hit in hits] == [
            ("articles", "1"),
            ("posts", "1"),
            ("posts", "2"),
        ]
        assert hits[0].score == pytest.approx(1)
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

    def test_a_hit_knows_its_place_in_its_document(self, client: QdrantClient) -> None:
        for number, content in ((31, "whales sing at night"), (32, "whales sing")):
            put_chunk(client, "posts", number, content, entry_id="w")
        record(client, "posts", "w", [str(UUID(int=number)) for number in (31, 32)])
        hits = RetrievalClient(client, HashingEmbedder()).search("whales sing", limit=2)
        assert [(hit.content, hit.position) for hit in hits] == [
            ("whales sing", 1), ("whales sing at night", 0),
        ]  # fmt: skip

    def test_equal_scores_come_in_the_order_of_the_document(self, client: QdrantClient) -> None:
        for number in (33, 32, 31):
            put_chunk(client, "posts", number, "whales sing", entry_id="w")
        record(client, "posts", "w", [str(UUID(int=number)) for number in (32, 33)])
        hits = RetrievalClient(client, HashingEmbedder()).search("whales sing", limit=3)
        assert [hit.position for hit in hits] == [0, 1, None]

    def test_a_part_of_a_new_document_is_not_found(self, client: QdrantClient) -> None:
        """Its first chunks would be the best hits, and must not push others out."""
        for number in range(40, 60):
            put_chunk(client, "posts", number, "ships sail on the sea", entry_id="new")
        retrieval = RetrievalClient(client, HashingEmbedder())
        for limit, found in ((1, ["1"]), (2, ["1", "2"])):
            hits = retrieval.search("ships sail on the sea", limit=limit, types=["posts"])
            assert [hit.entry_id for hit in hits] == found
        record(client, "posts", "new", [str(UUID(int=number)) for number in range(40, 60)])
        assert {hit.entry_id for hit in retrieval.search("ships sail on the sea")} >= {"new"}

    @pytest.mark.parametrize(
        ("query", "wanted", "problem"),
        [
            (" ", {}, "empty"),
            ("ships", {"limit": 0}, "limit"),
            ("ships", {"types": ["songs"]}, "songs"),
        ],
    )
    def test_refuses_what_makes_no_sense(
        self, client: QdrantClient, query: str, wanted: dict[str, object], problem: str
    ) -> None:
        with pytest.raises(ValueError, match=problem):
            RetrievalClient(client, HashingEmbedder()).search(query, **wanted)  # type: ignore[arg-type]


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
        prose = Hit(0.5, "posts", "1", "林", "知乎", "https://x", None, "", "变更流" * 80, 0)
        code = Hit(0.4, "repositories", "2", "o", None, None, "r", "a.py", "    if x:\n\t\ty\n", 0)
        search.print_hits(Console(file=output, width=60), [prose, code], lines=2)
        lines = output.getvalue().splitlines()
        assert len(lines) == 6
        assert max(cell_len(line) for line in lines) <= 60
        assert lines[-2:] == ["        if x:", "            y"]
