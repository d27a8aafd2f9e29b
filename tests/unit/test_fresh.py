"""One truth of what is stored: planner, store, judge and oracle follow `models.fresh`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId
from qdrant_client import QdrantClient
from typing_extensions import Self, override

from connectors.qdrant import QdrantStore, cleaned, scan_points, vectors_of
from flows.embedding.embedder import lazily
from flows.operators.index import Indexer
from flows.operators.judge import Finding, Sides, expected, gather, judge
from flows.operators.prepare import chunk, clean, decode
from flows.operators.write import Indexed
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES, CapturedChange, ChangeEvent, Delivery, Document
from models.fresh import MAY_DIFFER, difference, fresh_points, without_text
from models.prepared import Upsert
from models.stored import Key
from retrieval.sync import compare, expected_state, stored_state
from tests.hashing import HashingEmbedder

EMBEDDER = HashingEmbedder()
CHUNKER = lazily(lambda: Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))
TEXT = "Ships sail on the sea. " * 200
ID = ObjectId(b"0" * 12)
KEY = Key("talks", str(ID))


@pytest.fixture(autouse=True)
def talks() -> Iterator[None]:
    """A document type with one more metadata field."""

    @dataclass(frozen=True)
    class Talk(Document, collection="talks"):
        topic: str | None = None

        @override
        @classmethod
        def parse(cls, entry_id: str, body: Any) -> Self:
            plain = super().parse(entry_id, body)
            return cls(**{**vars(plain), "topic": body.get("topic")})

        @override
        def metadata(self) -> dict[str, str | None]:
            return {**super().metadata(), "topic": self.topic}

    yield
    del DOCUMENT_TYPES["talks"]


class World:
    """A store in memory that follows one talk."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:")
        self.store = QdrantStore(self.client, DOCUMENT_TYPES)
        self.embedder = HashingEmbedder()
        self.store.ensure_collections(self.embedder.dimension)
        self.document: dict[str, Any] = {}
        self.time = 0

    def write(self, op: str = "update", **fields: Any) -> str:
        self.time += 1
        self.document = {"_id": ID, "content": TEXT, **fields}
        [result] = Indexer(self.store, self.embedder)([self.prepared(op)])
        assert isinstance(result, Indexed)
        return result.outcome

    def prepared(self, op: str = "repair") -> Upsert:
        change = CapturedChange(op, "talks", self.time, ID, self.document)
        message = ChangeEvent.from_change(change).to_message("q")
        made = chunk(CHUNKER)(clean(decode(Delivery("q", message.body, message.headers))))
        assert isinstance(made, Upsert)
        return made

    def fields(self, name: str) -> list[Any]:
        """A field of the record, then of every chunk."""
        names = (cleaned("talks"), vectors_of("talks"))
        return [
            (point.payload or {}).get(name)
            for collection in names
            for point in self.client.scroll(collection, limit=1000)[0]
        ]

    def finding(self) -> Finding | None:
        """The finding of reconciliation about the talk."""
        sides = Sides()
        for key, kind, id_, payload in scan_points(self.client, DOCUMENT_TYPES):
            assert key == KEY
            gather(sides, (kind, id_, payload))
        change = CapturedChange("repair", "talks", 1, ID, self.document)
        gather(sides, expected(self.prepared(), change, self.embedder.name))
        return judge(KEY, sides)

    def differences(self) -> list[str]:
        """The differences that the oracle finds in the store."""
        fresh = expected_state([("talks", self.document)], CHUNKER(), self.embedder)
        return compare(fresh, stored_state(self.client, with_vectors=True))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.client.close()


def test_an_edit_of_a_field_that_only_a_type_knows_reaches_record_and_chunks(world: World) -> None:
    world.write("insert", topic="ships")
    count = len(world.fields("topic"))
    embedded = world.embedder.encoded
    assert count > 3
    assert world.write(topic="boats") == "upserted"
    assert world.fields("topic") == ["boats"] * count
    assert world.write() == "upserted"
    assert world.fields("topic") == [None] * count
    assert world.embedder.encoded == embedded
    assert world.write(topic=None) == "refreshed"
    assert world.differences() == []


def test_a_renamed_heading_embeds_its_section_again_and_no_other(world: World) -> None:
    sections = [
        f"# {name}\n\n" + " ".join(f"{name} sentence {n} of many words." for n in range(150))
        for name in ("Ships", "Trains", "Planes")
    ]
    world.write("insert", content="\n\n".join(sections))
    chunks = world.fields("context").count("Trains")
    before = world.embedder.encoded
    assert chunks > 3
    world.write(content="\n\n".join(sections).replace("# Trains", "# Railways"))
    assert world.fields("context").count("Railways") == chunks
    assert chunks < world.embedder.encoded - before <= chunks + 2  # and that of the heading
    assert world.differences() == []


def test_an_altered_context_is_found_and_repaired(world: World) -> None:
    world.write("insert", content="# Ships\n\n" + "They sail. " * 400)
    [point, *_] = [
        point
        for point in world.client.scroll(vectors_of("talks"), limit=100)[0]
        if (point.payload or {}).get("context")
    ]
    world.client.set_payload(vectors_of("talks"), {"context": "Trains"}, [point.id])
    assert world.finding() is not None
    assert world.differences() != []
    [result] = Indexer(world.store, world.embedder)([world.prepared()])
    assert isinstance(result, Indexed)
    assert world.finding() is None
    assert world.differences() == []


def test_a_text_without_a_single_word_is_in_sync(world: World) -> None:
    """It has a dense vector and no sparse one."""
    world.write("insert", content="?! … ?!")
    assert world.fields("content")
    assert world.differences() == []


@pytest.mark.parametrize("collection", [cleaned("talks"), vectors_of("talks")])
@pytest.mark.parametrize("field", ["topic", "author_id", "model"])
def test_a_field_that_is_missing_somewhere_is_found_and_repaired(
    world: World, collection: str, field: str
) -> None:
    world.write("insert", topic="ships", author_id="me")
    assert world.finding() is None
    point = world.client.scroll(collection, limit=1)[0][0]
    world.client.set_payload(collection, {field: "damaged"}, [point.id])
    assert world.finding() == Finding("stale", KEY, (ID,))
    assert world.differences() != []
    assert world.write("repair", topic="ships", author_id="me") == "upserted"
    assert world.finding() is None
    assert world.differences() == []


@pytest.mark.parametrize(
    ("collection", "field"),
    [
        (cleaned("talks"), "text_hash"),
        (cleaned("talks"), "content_hash"), (cleaned("talks"), "chunk_ids"),
        (vectors_of("talks"), "content"), (vectors_of("talks"), "chunk_hash"),
        (vectors_of("talks"), "path"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gone", [False, True])
def test_damage_to_any_field_is_found_and_repaired(
    world: World, collection: str, field: str, gone: bool
) -> None:
    world.write("insert", topic="ships")
    ids = [point.id for point in world.client.scroll(collection, limit=1)[0]]
    damaged: Any = ["x"] if field == "chunk_ids" else "x"
    if gone:
        world.client.delete_payload(collection, [field], ids)
    else:
        world.client.set_payload(collection, {field: damaged}, ids)
    if (field, gone) != ("path", True):  # the path of a talk is empty
        assert world.finding() == Finding("stale", KEY, (ID,))
    assert world.write("repair", topic="ships") == "upserted"
    assert world.finding() is None
    assert world.differences() == []


def test_the_text_of_a_record_is_compared_by_its_hash_and_not_read(world: World) -> None:
    world.write("insert", topic="ships")
    for key, kind, _, payload in scan_points(world.client, DOCUMENT_TYPES):
        assert key == KEY
        assert "cleaned_content" not in payload
        assert ("text_hash" in payload) == (kind == "record")
    read: list[Any] = []
    whole = world.client.scroll
    world.client.scroll = lambda *args, **options: read.append(whole(*args, **options)) or read[-1]  # type: ignore[method-assign]
    assert world.finding() is None
    records = [point for points, _ in read for point in points if "chunk_ids" in point.payload]
    assert records
    assert all("cleaned_content" not in point.payload for point in records)


def test_a_repair_writes_the_text_of_a_record_that_looks_right(world: World) -> None:
    """Nobody reads that text, so somebody may have changed it without its hash."""
    world.write("insert", topic="ships")
    [record] = world.client.scroll(cleaned("talks"))[0]
    world.client.set_payload(cleaned("talks"), {"cleaned_content": "changed"}, [record.id])
    assert world.finding() is None
    assert world.write("repair", topic="ships") == "upserted"
    assert world.differences() == []


def test_a_field_that_a_type_no_longer_has_goes(world: World) -> None:
    world.write("insert", topic="ships")
    for collection in (cleaned("talks"), vectors_of("talks")):
        points = world.client.scroll(collection, limit=1000)[0]
        world.client.set_payload(collection, {"stage": "main"}, [point.id for point in points])
    assert world.finding() == Finding("stale", KEY, (ID,))
    assert world.write(topic="ships") == "upserted"
    assert set(world.fields("stage")) == {None}
    assert world.finding() is None
    assert world.differences() == []


def test_what_is_stored_is_what_a_fresh_sync_holds_and_when_it_was_written(world: World) -> None:
    world.write("insert", topic="ships")
    change = world.prepared()
    fresh = fresh_points(change, world.embedder.name)
    [record] = world.client.scroll(cleaned("talks"))[0]
    assert difference(fresh.record, record.payload or {}) == {}
    assert (record.payload or {}).keys() == fresh.record.keys() | MAY_DIFFER
    for point in world.client.scroll(vectors_of("talks"), limit=1000)[0]:
        payload = point.payload or {}
        assert payload.keys() == fresh.chunks[str(point.id)].keys() | {"version"}
        assert difference(fresh.chunks[str(point.id)], payload) == {}


def test_null_and_absent_are_the_same() -> None:
    assert difference({"a": None, "b": 1}, {"b": 1, "c": None}) == {}
    assert difference({"a": 1, "b": None}, {"b": 2, "c": 3}) == {"a": 1, "b": None, "c": None}


def test_a_hash_is_believed_only_beside_its_own_text() -> None:
    change = CapturedChange("repair", "posts", 1, "a", {"_id": "a", "content": "x"})
    message = ChangeEvent.from_change(change).to_message("q")
    made = chunk(CHUNKER)(clean(decode(Delivery("q", message.body, message.headers))))
    assert isinstance(made, Upsert)
    fresh = fresh_points(made, "m")
    [payload] = fresh.chunks.values()
    assert without_text(payload)["chunk_hash"] == payload["chunk_hash"]
    assert without_text({**payload, "content": "y"})["chunk_hash"] is None
    assert without_text({**fresh.record, "cleaned_content": "y"})["text_hash"] is None
