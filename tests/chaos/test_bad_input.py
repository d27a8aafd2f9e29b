"""Bad input: every message and document ends as its own points or as a dead letter."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pika
import pytest
from bytewax.testing import TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from connectors.qdrant import QdrantStore, cleaned, open_client, vectors_of
from flows import cdc, features
from flows.embedding.embedder import lazily
from flows.operators.index import Indexer
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES, CapturedChange, ChangeEvent, Delivery, Message, entry_id_of
from models.identity import record_id
from tests.chaos.bad_input import (
    BSON_FIELDS,
    BSON_VALUES,
    CASES,
    HEADER_CASES,
    HEADERS,
    VERSION,
    Case,
    body,
)
from tests.hashing import HashingEmbedder
from tests.qdrant_server import QdrantServer

FRAME_MAX = 131_072
"""RabbitMQ's default: the properties of a message must fit into one frame."""

EMBEDDER = HashingEmbedder()
CHUNKER = lazily(lambda: Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))


class Store:
    """A store under the real dataflow; embedded, unless it is given a client of a server."""

    def __init__(self, client: QdrantClient | None = None) -> None:
        self.client = client or QdrantClient(":memory:")
        self.store = QdrantStore(self.client, DOCUMENT_TYPES)
        self.store.ensure_collections(EMBEDDER.dimension)

    def run(self, deliveries: list[Delivery], batch_size: int = 1000) -> list[Message]:
        """The dead letters."""
        dead: list[Message] = []
        flow = features.build(
            TestingSource(deliveries, batch_size),
            CHUNKER,
            Indexer(self.store, EMBEDDER),
            dead.extend,
        )
        run_main(flow, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
        assert {message.queue for message in dead} <= {"default.dlq"}
        return dead

    def documents(self) -> set[tuple[str, str]]:
        """Who is stored; fails where anything is stored that is not wholly somebody's own."""
        found = set()
        for type_ in DOCUMENT_TYPES:
            records = self._payloads(cleaned(type_))
            chunks = self._payloads(vectors_of(type_))
            named = {id_: r["entry_id"] for r in records.values() for id_ in r["chunk_ids"]}
            assert {id_: chunk["entry_id"] for id_, chunk in chunks.items()} == named
            for id_, payload in [*records.items(), *chunks.items()]:
                assert payload["type"] == type_
                json.dumps(payload, allow_nan=False).encode()
                assert id_ in chunks or id_ == record_id(type_, payload["entry_id"])
            found |= {(type_, record["entry_id"]) for record in records.values()}
        return found

    def _payloads(self, collection: str) -> dict[str, dict[str, Any]]:
        records, _ = self.client.scroll(collection, limit=100_000)
        return {str(record.id): dict(record.payload or {}) for record in records}


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.client.close()


def neighbour(number: int) -> Delivery:
    entry_id = f"neighbour-{number}"
    document = {"_id": entry_id, "content": f"The text of {entry_id}.", "author_id": "me"}
    change = CapturedChange("insert", "posts", VERSION, entry_id, document)
    message = ChangeEvent.from_change(change).to_message("default")
    return Delivery("default", message.body, message.headers)


def delivery(case: Case) -> Delivery:
    return Delivery("default", case.body, case.headers)


def own(case: Case) -> set[tuple[str, str]]:
    """The document of a case that ends as points."""
    read = json.loads(case.body)
    return {(read["type"], read["entry_id"])}


def check_letter(letter: Message, body: bytes) -> None:
    """A dead letter is the original, says why, and is one that the broker takes."""
    assert letter.body == body
    reason = letter.headers["reason"]
    assert isinstance(reason, str)
    assert reason.strip()
    assert len(reason.splitlines()) == 1
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        headers=dict(letter.headers),
        message_id=letter.message_id or None,
        timestamp=2**40,
        type=letter.type or None,
    )
    frame = pika.frame.Header(1, len(letter.body), properties).marshal()
    assert len(frame) <= FRAME_MAX


def test_the_corpus_is_large() -> None:
    assert len(CASES) == len({case.name for case in CASES}) > 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_ends_as_points_or_as_a_dead_letter(case: Case, store: Store) -> None:
    dead = store.run([delivery(case)])
    if case.ends == "points":
        assert dead == []
        assert store.documents() == own(case)
    else:
        [letter] = dead
        check_letter(letter, case.body)
        assert store.documents() == set()
    # once more, among neighbours
    dead = store.run([neighbour(1), delivery(case), neighbour(2)])
    assert [letter.body for letter in dead] == ([] if case.ends == "points" else [case.body])
    neighbours = {("posts", "neighbour-1"), ("posts", "neighbour-2")}
    assert store.documents() == neighbours | (own(case) if case.ends == "points" else set())


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_all_bad_input_at_once(store: Store, batch_size: int) -> None:
    check_all_at_once(store, batch_size)


def test_all_bad_input_at_once_on_a_server(tmp_path: Path) -> None:
    """What Python and JSON let pass may be too much for protobuf, or for the server's engine."""
    with QdrantServer(tmp_path) as server:
        check_all_at_once(Store(open_client(server.settings)), batch_size=20)


def check_all_at_once(store: Store, batch_size: int) -> None:
    cases = [case for case in CASES if len(case.body) < 2**13]
    deliveries = [neighbour(1)]
    for number, case in enumerate(cases):
        deliveries += [delivery(case), neighbour(2 + number)]
    letters = store.run(deliveries, batch_size)
    dead = [case for case in cases if case.ends == "dead"]
    assert sorted(letter.body for letter in letters) == sorted(case.body for case in dead)
    neighbours = {("posts", f"neighbour-{1 + number}") for number in range(len(cases) + 1)}
    points = set[tuple[str, str]]().union(*(own(c) for c in cases if c.ends == "points"))
    # many share one id; where the last one is poison, what it said before goes with it
    shared = {(type_, "id") for type_ in DOCUMENT_TYPES}
    assert store.documents() - shared == (neighbours | points) - shared
    texts = {record["cleaned_content"] for record in store._payloads(cleaned("posts")).values()}
    assert texts >= {f"The text of neighbour-{1 + number}." for number in range(len(cases) + 1)}


@pytest.mark.parametrize("name", [n for n, (_, ends) in HEADER_CASES.items() if ends == "dead"])
def test_every_dead_letter_can_be_published_whatever_its_headers(name: str, store: Store) -> None:
    """Poison of every stage that comes with hostile headers."""
    hostile = {key: value for key, value in HEADER_CASES[name][0].items() if key not in HEADERS}
    poison = [b"no json", body(type="videos"), body(content=None)]
    letters = store.run([Delivery("default", data, {**hostile, **HEADERS}) for data in poison])
    assert len(letters) == len(poison)
    for letter, data in zip(sorted(letters, key=lambda m: m.body), sorted(poison), strict=True):
        check_letter(letter, data)


def captured(document: dict[str, Any], op: str = "insert") -> list[Message]:
    """The message that capture sends of a document, which has been through BSON."""
    codec: bson.CodecOptions[dict[str, Any]] = bson.CodecOptions(
        tz_aware=True, datetime_conversion=bson.DatetimeConversion.DATETIME_AUTO
    )
    read = bson.decode(bson.encode(document), codec)
    change = CapturedChange(op, "posts", VERSION, read["_id"], None if op == "delete" else read)
    out: list[Message] = []
    run_main(cdc.build(TestingSource([change]), out.extend), epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    return out


def follow(store: Store, document: dict[str, Any]) -> set[tuple[str, str]]:
    """Take a document from MongoDB to the store; who is stored, or an empty set for a letter."""
    [message] = captured(document)
    if message.queue == "default.dlq":
        check_letter(message, message.body)
        return set()
    letters = store.run([Delivery("default", message.body, message.headers)])
    stored = store.documents()
    assert len(letters) + len(stored) == 1
    for letter in letters:
        check_letter(letter, message.body)
    return stored


@pytest.mark.parametrize("kind", BSON_VALUES)
def test_any_bson_type_is_an_id(kind: str, store: Store) -> None:
    id_ = BSON_VALUES[kind]
    document = {"_id": id_, "content": "text"}
    assert follow(store, document) == {("posts", entry_id_of(id_))}
    [message] = captured(document, "delete")
    assert store.run([Delivery("default", message.body, message.headers)]) == []
    assert store.documents() == set()


def test_ids_of_every_bson_type_differ() -> None:
    ids = [*BSON_VALUES.values(), "5", 5, bson.Int64(5), 5.0, bson.Decimal128("5")]
    assert len({entry_id_of(id_) for id_ in ids}) == len(ids)


@pytest.mark.parametrize("kind", BSON_FIELDS)
def test_any_bson_type_is_a_field(kind: str, store: Store) -> None:
    value = BSON_FIELDS[kind]
    document = {"_id": "id", "content": {"a": value, "b": "text"}, "platform": value, "": value}
    stored = follow(store, document)
    assert stored == (set() if kind == "100 levels" else {("posts", "id")})


@pytest.mark.parametrize(
    "id_",
    [
        "",
        " ",
        "\x00",
        "i" * 200_000,
        "victim/../x",
        "ObjectId('x')",
    ],
)
def test_a_hostile_id_stays_its_own(id_: str, store: Store) -> None:
    """Fields of the document that are named like ours change nothing."""
    document = {"_id": id_, "entry_id": "victim", "type": "articles", "content": "text"}
    assert follow(store, document) == ({("posts", id_)} if id_ else set())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["$oid", "$date"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
field_names = st.sampled_from(["type", "entry_id", "content", "author_id", "name", "link", "x"])
bodies = st.dictionaries(
    field_names, json_values | st.sampled_from(["posts", "articles", "id"])
).map(lambda value: json.dumps(value).encode())
header_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.datetimes()
    | st.decimals()
    | st.sampled_from(["insert", "delete", "drop", 1, VERSION]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
headers = st.dictionaries(
    st.sampled_from(["op", "version", "ordinal", "schema", "committed_ms", "x-death"])
    | st.text(max_size=8)
    | st.binary(max_size=4),
    header_values,
    max_size=4,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid body, with some bytes replaced, put in, or left out."""
    data = bytearray(body(content={"Title": "Ü", "a": ["b", 1.5, None]}, author_id={"$oid": "0"}))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b"[", b"\\u", b"\\ud800"])
        )
    return bytes(data)


messages = st.builds(
    lambda data, headers: Delivery("default", data, headers),
    st.binary(max_size=60) | bodies | mutated(),
    headers | st.just(HEADERS),
)


@given(messages)
def test_nothing_but_value_error_comes_out_of_the_decoder(message: Delivery) -> None:
    try:
        event = ChangeEvent.from_delivery(message)
    except ValueError:
        return
    assert 0 <= event.version.time < 2**63
    assert 0 <= event.version.ordinal < 2**31
    assert event.type
    assert event.entry_id or event.op == "drop"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_no_depth_breaks_the_decoder(opening: str) -> None:
    """Reading, and showing what was read in an error, have limits of their own."""
    closing = "]" if opening == "[" else "}"
    for levels in [*range(700, 1000, 3), 3_000, 30_000, 200_000]:
        deep = opening * levels + "1" + closing * levels
        for data in (f'{{"type": {deep}}}', f'{{"type": "posts", "entry_id": {deep}}}'):
            with pytest.raises(ValueError, match=r"."):
                ChangeEvent.from_delivery(Delivery("default", data.encode()))


@given(st.lists(messages, min_size=1, max_size=12))
@settings(max_examples=25)
def test_the_dataflow_never_raises(batch: list[Delivery]) -> None:
    store = Store()
    try:
        letters = store.run(batch)
        bodies = [message.body for message in batch]
        for letter in letters:
            assert letter.body in bodies
            check_letter(letter, letter.body)
        store.documents()
    finally:
        store.client.close()
