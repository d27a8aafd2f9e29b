"""The bound of a buffer follows the memory that documents take, whatever their shape."""

import tracemalloc
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from bson import Timestamp

from connectors.mongodb import handover
from connectors.mongodb.handover import Handover
from connectors.mongodb.positions import Position, StreamPosition
from connectors.mongodb.server import CODEC
from connectors.mongodb.sizes import size_of
from models import CapturedChange

BOUND = 2**22
_DAY = datetime(2026, 11, 20, tzinfo=timezone.utc)


def nested(depth: int) -> dict[str, Any]:
    inside: dict[str, Any] = {}
    for _ in range(depth):
        inside = {"x": inside}
    return inside


def post() -> dict[str, Any]:
    content = {"Title": "t" * 40, "Content": "text " * 250}
    return {"_id": bson.ObjectId(), "platform": "x", "content": content, "author_id": "me"}


SHAPES: dict[str, Callable[[], dict[str, Any]]] = {
    "flat": post,
    "wide": lambda: {f"field {number}": number * 1000 for number in range(10_000)},
    "wide texts": lambda: {f"{number}": f"text {number}" for number in range(10_000)},
    "long names": lambda: {f"{'name' * 100}{number}": None for number in range(1000)},
    "deep": lambda: {"a": [nested(90) for _ in range(50)]},
    "binary": lambda: {"a": bson.Binary(b"x" * 500_000, 128), "b": b"y" * 500_000},
    "numbers": lambda: {"a": [number * 0.5 for number in range(50_000)]},
    "unicode": lambda: {"a": "世界" * 100_000, "b": "a" * 100_000 + "\U0001f600"},
    "ids": lambda: {"a": [bson.ObjectId() for _ in range(5000)]},
    "dates": lambda: {"a": [_DAY + timedelta(seconds=number) for number in range(5000)]},
    "references": lambda: {"a": [bson.DBRef("posts", n, extra="x" * 200) for n in range(2000)]},
    "patterns": lambda: {"a": [bson.Regex("abc" * 100 + str(n)) for n in range(2000)]},
    "code": lambda: {"a": bson.Code("x" * 100_000, {"scope": "y" * 100_000})},
}


def memory_of(make: Callable[[], Any]) -> tuple[Any, int]:
    """What is made, and the memory that it holds."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        return made, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_size_of_a_document_is_the_memory_that_it_takes(shape: str) -> None:
    raw = bson.encode(SHAPES[shape]())
    document, memory = memory_of(lambda: bson.decode(raw, CODEC))
    assert 0.8 * memory < size_of(document) < 1.6 * memory


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_full_buffer_holds_no_more_than_its_bound_whatever_the_documents(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of many small fields takes twelve times its bytes on the wire."""
    monkeypatch.setattr(handover, "MAX_BYTES", BOUND)
    monkeypatch.setattr(handover, "_LOOK_AGAIN_S", 0.001)
    raw = bson.encode(SHAPES[shape]())
    position = Position(StreamPosition(Timestamp(1, 1)))

    def fill() -> Handover:
        buffer = Handover()
        for number in range(2 * handover.MAX_ENTRIES):
            document = bson.decode(raw, CODEC)
            change = CapturedChange("insert", "posts", number, number, document)
            if not buffer.put((change, position), size_of(document)):
                return buffer
        raise AssertionError("it is never full")

    one, _ = memory_of(lambda: bson.decode(raw, CODEC))
    _, memory = memory_of(fill)
    assert memory < 1.3 * (BOUND + size_of(one))
