"""Both sides of each document in one number, whatever the order in which its points come."""

import random
import tracemalloc
from typing import Any

import pytest
from bson import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from flows import second_look
from flows.comparison import Comparison
from flows.operators.judge import Expected, Finding, Sides, digest, gather
from flows.operators.tally import Tally, weigh_expected, weigh_stored, weight_of_sides
from flows.progress import Progress
from flows.reconciliation import expect_with
from flows.second_look import LOOKS, SecondLook
from models import CapturedChange
from models.identity import record_id
from models.stored import Key

CHUNKS = 3


def points(key: Key, text: str = "") -> list[tuple[Key, str, str, dict[str, Any]]]:
    """What is stored of a document."""
    record = (key, "record", record_id(*key), {"entry_id": key.entry_id, "name": text})
    return [record, *((key, "chunk", f"{key.entry_id}-{n}", {"path": text}) for n in range(CHUNKS))]


def wanted(key: Key, text: str = "") -> Expected:
    record, *chunks = points(key, text)
    return Expected((key.entry_id,), digest(record[3]), {p[2]: digest(p[3]) for p in chunks})


def differing(documents: dict[str, str], stored: dict[str, str], chance: random.Random) -> set[str]:
    """Names of the documents that a tally finds, with all points in a random order."""
    items = [
        weigh_expected(Key("posts", id_), wanted(Key("posts", id_), t))[1]
        for id_, t in documents.items()
    ]
    items += [
        weigh_stored(*point)[1]
        for id_, t in stored.items()
        for point in points(Key("posts", id_), t)
    ]
    chance.shuffle(items)
    tally = Tally()
    for item in items:
        tally.add(item)
    return set(tally.differing())


CONTENTS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz"))


@given(CONTENTS, CONTENTS, st.randoms(use_true_random=False))
def test_a_tally_finds_the_documents_that_differ(
    documents: dict[str, str], stored: dict[str, str], chance: random.Random
) -> None:
    unequal = {id_ for id_ in {*documents, *stored} if documents.get(id_) != stored.get(id_)}
    assert differing(documents, stored, chance) == unequal


def test_a_point_that_is_there_twice_or_of_another_document_is_found() -> None:
    a, b = Key("posts", "a"), Key("posts", "b")
    for extra in ((a, "chunk", "stray", {"path": ""}), (b, "chunk", "b-0", {"path": ""})):
        tally = Tally().add(weigh_expected(a, wanted(a))[1])
        for point in (*points(a), extra):
            tally.add(weigh_stored(*point)[1])
        assert list(tally.differing()) == [extra[0].entry_id]


def test_a_document_costs_less_than_400_bytes() -> None:
    """Half-way through, when every document has one side only, which is the most there is."""
    count = 100_000
    keys = [Key("posts", f"{number:024x}") for number in range(count)]
    (_, item), stored = weigh_expected(keys[0], wanted(keys[0])), points(keys[0])
    weights = [item.weight + number for number in range(count)]
    del stored
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tally = Tally()
    for number, weight in enumerate(weights):
        tally.add(item._replace(entry_id=f"{number:024x}", weight=weight))
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(tally) == count
    assert used / count < 400, used / count


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look, "SETTLE_S", 0.0)


class World:
    """Both sides, with a change between looks for each document that is still moving."""

    def __init__(self) -> None:
        self.documents: dict[Key, str] = {}
        self.stored: dict[Key, str] = {}
        self.looks = 0

    def look(self) -> SecondLook:
        return SecondLook(self.read_documents, self.read_points, self.expect)

    def read_documents(self, keys: Any) -> Any:
        for key in keys:
            if key in self.documents:
                yield CapturedChange("repair", key.type, 1, key.entry_id, {"t": key})

    def read_points(self, keys: Any) -> Any:
        self.looks += 1
        self.change()
        for key in keys:
            if key in self.stored:
                yield from points(key, self.stored[key])

    def change(self) -> None: ...

    def expect(self, change: CapturedChange) -> tuple[Key, Expected]:
        key = Key(change.collection, change.id)
        if self.documents[key] == "unusable":
            raise ValueError("no content")
        return key, wanted(key, self.documents[key])

    def weight(self, key: Key) -> int:
        sides = Sides()
        if self.documents.get(key, "unusable") != "unusable":
            gather(sides, wanted(key, self.documents[key]))
        if key in self.stored:
            for _, kind, id_, payload in points(key, self.stored[key]):
                gather(sides, (kind, id_, payload))
        return weight_of_sides(key, sides)


A, B = Key("posts", "a"), Key("posts", "b")


def test_what_differs_as_before_is_a_finding_and_what_is_equal_by_now_is_none(
    no_waiting: None,
) -> None:
    world = World()
    world.documents = {A: "new", B: "new"}
    world.stored = {A: "old", B: "new"}
    found = list(world.look()([(A, world.weight(A)), (B, 5)]))
    assert [(finding.key, finding.kind) for finding in found] == [(A, "stale")]
    assert world.looks == 1
    assert world.look().still_wrong([A, B]) == {A}


def test_a_change_on_its_way_is_no_finding(no_waiting: None) -> None:
    class Busy(World):
        def change(self) -> None:
            self.documents[A] = f"edit {self.looks}"
            self.stored[A] = f"edit {max(0, self.looks - 1) if self.looks < 4 else self.looks}"

    world = Busy()
    world.documents = {A: "edit 0"}
    world.stored = {A: "before"}
    assert list(world.look()([(A, world.weight(A))])) == []
    assert world.looks == 4


def test_what_never_stands_still_is_judged_in_the_end(no_waiting: None) -> None:
    class Restless(World):
        def change(self) -> None:
            self.documents[A] = f"edit {self.looks}"

    world = Restless()
    world.documents, world.stored = {A: "edit 0"}, {A: "old"}
    found = list(world.look()([(A, world.weight(A))]))
    assert [finding.kind for finding in found] == ["stale"]
    assert world.looks == LOOKS


def test_a_document_that_cannot_be_used_leaves_an_orphan(no_waiting: None) -> None:
    world = World()
    world.documents, world.stored = {A: "unusable"}, {A: "old"}
    found = list(world.look()([(A, world.weight(A))]))
    assert [(finding.kind, finding.mongo_id) for finding in found] == [("orphaned document", None)]


def test_a_document_that_the_scan_saw_and_that_cannot_be_found_again_is_not_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its `_id` is not UTF-8, say: the second look takes it for gone."""
    monkeypatch.setattr(Comparison, "_again", lambda _self, _now, _keys: iter(()))
    comparison = object.__new__(Comparison)
    comparison._queues = ["q"]
    comparison._ids, comparison._place = {A: "\ufffd"}, None
    orphaned = [
        comparison._repair(Timestamp(5, 1), Finding("orphaned document", k)) for k in (A, B)
    ]
    assert orphaned[0] is None
    assert orphaned[1] is not None
    assert orphaned[1].headers["op"] == "repair"


def test_progress_estimates_by_the_side_that_lags() -> None:
    now = [0.0]
    progress = Progress(100, 400, lambda: now[0])
    documents, stored = progress.documents(range(100)), progress.points(range(400))
    for _ in range(50):
        next(documents)
    for _ in range(100):
        next(stored)
    now[0] = 10.0
    assert progress.line() == (
        "compared 50 of about 100 documents and 100 of about 400 points, about 30 s left"
    )


def test_progress_of_nothing_is_told_without_an_estimate() -> None:
    assert "left" not in Progress(10, 0).line()


def test_a_document_that_no_message_can_carry_blocks_no_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Capture cannot send it, so it is not stored; a repair with it would be sent for ever."""
    for module in ("flows.operators.encode", "flows.comparison"):
        monkeypatch.setattr(f"{module}.MAX_MESSAGE_BYTES", 1000)
    large = CapturedChange("repair", "posts", 5, "a", {"_id": "a", "content": "x" * 1000})
    expect = expect_with(lambda: None, list, "model")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="divide the document"):
        expect(large)
    monkeypatch.setattr(Comparison, "_again", lambda _self, _now, _keys: iter([large]))
    comparison = object.__new__(Comparison)
    comparison._queues, comparison._ids, comparison._place = ["q"], {}, "2"
    repair = comparison._repair(Timestamp(5, 1), Finding("orphaned document", A))
    assert repair is not None
    assert repair.body == b'{"type":"posts","entry_id":"a"}'
    assert repair.headers["place"] == "2"
