"""The buffer between the capture's thread and the dataflow."""

from typing import Any

import pytest
from bson import Timestamp

from connectors.mongodb import handover
from connectors.mongodb.handover import Entry, Handover
from connectors.mongodb.positions import Position, StreamPosition
from models import CapturedChange


def position(number: int) -> Position:
    return Position(StreamPosition(Timestamp(1, 1), token={"_data": f"{number:04}"}))


def entry(number: int) -> Entry:
    return CapturedChange("delete", "posts", number, str(number)), position(number)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "MAX_ENTRIES", 3)
    monkeypatch.setattr(handover, "MAX_BYTES", 100)
    monkeypatch.setattr(handover, "_LOOK_AGAIN_S", 0.01)


def test_entries_come_out_in_order_within_the_limits() -> None:
    between = Handover()
    assert all(between.put(entry(number), 10) for number in range(3))
    assert between.take(2, 1000) == [entry(0), entry(1)]
    assert between.take(5, 1000) == [entry(2)]
    assert between.take(5, 1000) == []


def test_one_that_is_larger_than_the_limit_comes_alone() -> None:
    between = Handover()
    between.put(entry(0), 50)
    between.put(entry(1), 40)
    assert between.take(5, 45) == [entry(0)]
    assert between.take(5, 45) == [entry(1)]


@pytest.mark.parametrize(("count", "size"), [(3, 1), (1, 100)])
def test_a_full_buffer_takes_nothing_until_something_was_taken(count: int, size: int) -> None:
    between = Handover()
    assert all(between.put(entry(number), size) for number in range(count))
    assert not between.put(entry(9), 1)
    between.take(1, 1000)
    assert between.put(entry(9), 1)


def test_tokens_of_a_quiet_stream_take_one_place() -> None:
    between = Handover()
    for number in range(10):
        assert between.put((None, position(number)), 0)
    between.put(entry(10), 1)
    between.put((None, position(11)), 0)
    assert between.take(5, 1000) == [(None, position(9)), entry(10), (None, position(11))]


def test_a_position_that_was_replaced_meanwhile_is_still_to_be_stored() -> None:
    between = Handover()
    between.store(position(1))
    being_stored: Any = between.to_store
    between.store(position(2))
    between.stored(being_stored)
    assert between.to_store == position(2)
    between.stored(between.to_store)
    assert between.to_store is None


def test_nobody_waits_for_a_buffer_that_is_closed() -> None:
    between = Handover()
    between.close()
    assert between.closing
    assert between.put(entry(0), 1)
    assert between.take(1, 1) == []
