"""The wire contract: a change event and its message."""

import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from zlib import crc32

import bson
import pytest
from bson import json_util
from hypothesis import given
from hypothesis import strategies as st

from connectors.mongodb import findable, scan
from models import CapturedChange, ChangeEvent, Delivery, entry_id_of
from models.identity import chunk_id, drop_fence_id, partition_of, record_id

VERSION = (1_700_000_000 << 32) | 7


def through_the_wire(change: CapturedChange) -> ChangeEvent:
    message = ChangeEvent.from_change(change).to_message("q")
    return ChangeEvent.from_delivery(Delivery("q", message.body, message.headers))


@pytest.mark.parametrize(
    ("mongo_id", "entry_id"),
    [
        ("plain", "plain"),
        (bson.ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        (5, '{"$numberInt": "5"}'),
        (bson.Int64(5), '{"$numberLong": "5"}'),
        (2.5, '{"$numberDouble": "2.5"}'),
        (None, "null"),
        (True, "true"),
        ({"b": 1, "a": "x"}, '{"b": {"$numberInt": "1"}, "a": "x"}'),
    ],
)
def test_entry_id_of_any_bson_type(mongo_id: Any, entry_id: str) -> None:
    assert entry_id_of(mongo_id) == entry_id
    assert findable(mongo_id)


def test_a_document_whose_id_cannot_be_told_from_its_entry_id_is_not_taken_for_gone() -> None:
    """Reconciliation would remove it."""
    hidden = bson.Binary(b"x" * 16, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_ids_of", lambda entry_id: iter([entry_id]))
        assert not findable(hidden)
        assert findable("plain")
    assert not findable("not \ufffd UTF-8")
    assert not findable({"n": "not \ufffd UTF-8"})


def test_a_document_becomes_a_flat_message_and_comes_back() -> None:
    document = {
        "_id": bson.ObjectId(),
        "platform": "x",
        "content": {"text": "héllo 世界"},
        "author_id": bson.ObjectId(),
        "unknown": [1, datetime(2024, 1, 1, tzinfo=timezone.utc)],
        "type": "not ours",
    }
    change = CapturedChange("insert", "posts", VERSION, document["_id"], document, 123)
    message = ChangeEvent.from_change(change).to_message("q")
    body = json.loads(message.body)
    assert "_id" not in body
    assert body["type"] == "posts"
    assert body["entry_id"] == str(document["_id"])
    assert body["unknown"][0] == 1
    assert message.type == "insert"
    assert message.headers == {
        "op": "insert", "version": VERSION, "schema": 1, "committed_ms": 123,
    }  # fmt: skip
    event = through_the_wire(change)
    assert (event.op, event.type, event.version) == ("insert", "posts", (VERSION, 0))
    assert event.fenced
    assert not event.foreign
    assert event.body["content"] == {"text": "héllo 世界"}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "value",
    [
        None, "null", True, 2**62, bson.Int64(5), -0.0, 1e22, 5e-324, float("nan"), float("inf"),
        [1.5, None, float("-inf")], datetime(2024, 1, 1, 5, 6, 7, 8000, tzinfo=timezone.utc),
        datetime(1901, 1, 1, tzinfo=timezone.utc), bson.DatetimeMS(2**60), bson.Decimal128("1.50"),
        b"bytes", bson.Binary(b"0" * 16, 4), bson.Regex("a.*", "i"), bson.Timestamp(5, 6),
        bson.MinKey(), bson.DBRef("posts", 5), nested(40), nested(150), "\u2028 \x00 \U0001f6a2",
    ],
)  # fmt: skip
def test_a_body_means_what_relaxed_extended_json_means(value: Any) -> None:
    change = CapturedChange("insert", "posts", 1, "a", {"_id": "a", "content": value})
    body = ChangeEvent.from_change(change).to_message("q").body.decode()
    expected = json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)
    assert repr(json.loads(body)["content"]) == repr(json.loads(expected))


def test_a_delete_carries_only_type_and_entry_id() -> None:
    message = ChangeEvent.from_change(CapturedChange("delete", "posts", VERSION, "a")).to_message(
        "q"
    )
    assert json.loads(message.body) == {"type": "posts", "entry_id": "a"}


def test_a_message_without_headers_is_an_upsert_of_now() -> None:
    body = b'{"type": "posts", "entry_id": "a", "content": "x"}'
    event = ChangeEvent.from_delivery(Delivery("q", body))
    assert event.op == "update"
    assert not event.fenced
    assert event.foreign
    assert event.version.time >> 32 > 1_700_000_000


def test_not_a_number_has_a_form() -> None:
    change = CapturedChange(
        "insert", "posts", 1, "a", {"_id": "a", "content": float("nan"), "b": [1.5]}
    )
    assert through_the_wire(change).body["content"] == {"$numberDouble": "NaN"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"no json", {}),
        (b"\xff\xfe\x00", {}),
        (b"[" * 100_000, {}),
        (b"[1]", {}),
        (b'{"type": "posts"}', {}),
        (b'{"entry_id": "a"}', {}),
        (b'{"type": "posts", "entry_id": ""}', {}),
        (b'{"type": "posts", "entry_id": 5}', {}),
        (b'{"type": "posts", "entry_id": "\\ud800"}', {}),
        (b'{"type": ["posts"], "entry_id": "a"}', {}),
        (b'{"type": "posts", "entry_id": "a"}', {"schema": 2}),
        (b'{"type": "posts", "entry_id": "a"}', {"op": "explode"}),
        (b'{"type": "posts", "entry_id": "a"}', {"op": ["insert"]}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": -1}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": "7"}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": True}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 2**63}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 1, "ordinal": -1}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 1, "ordinal": "0"}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 1, "ordinal": None}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 1, "ordinal": False}),
        (b'{"type": "posts", "entry_id": "a"}', {"version": 1, "ordinal": 2**31}),
    ],
)
def test_what_is_not_our_contract_is_a_value_error(body: bytes, headers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ChangeEvent.from_delivery(Delivery("q", body, headers))


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=8), st.integers() | st.text()))
def test_the_decoder_raises_nothing_but_value_error(body: bytes, headers: dict[str, Any]) -> None:
    with suppress(ValueError):
        ChangeEvent.from_delivery(Delivery("q", body, headers))


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_ids_of_different_documents_differ(keys: list[tuple[str, str]]) -> None:
    one, other = keys
    assert record_id(*one) != record_id(*other)
    assert chunk_id(*one, "p", "h", 0) != chunk_id(*other, "p", "h", 0)


def test_ids_cannot_be_confused_by_separators() -> None:
    assert record_id("a/b", "c") != record_id("a", "b/c")
    assert record_id('a","b', "c") != record_id("a", 'b","c')
    assert drop_fence_id("a") != record_id("a", "")
    assert chunk_id("t", "e", "p", "1", 0) != chunk_id("t", "e", "p1", "", 0)


@given(st.text(), st.integers(1, 64))
def test_other_producers_find_the_partition_of_a_document(entry_id: str, partitions: int) -> None:
    """Another queue would let its changes overtake each other."""
    named = f"posts/{entry_id}".encode("utf-8", "surrogatepass")
    assert partition_of("posts", entry_id, partitions) == crc32(named) % partitions
