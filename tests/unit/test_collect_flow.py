"""The collect flow without services: what was read in, an in-memory store, a report out."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bytewax.testing import TestingSource, run_main

from connectors.collect.handover import Handover
from connectors.collect.polling import Polled, PollingSource
from flows.collect import build
from flows.collected import Report
from flows.operators.collect import Policy, Writer
from flows.operators.readable import LONGEST, id_of, prepare
from models.collected import (
    Collected,
    Failed,
    Fate,
    Finished,
    Prepared,
    Present,
    Reading,
    Refused,
    Run,
    Step,
    Tally,
)
from models.errors import SourceError


class MemoryStore:
    """Documents and states in memory."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Prepared] = {}
        self.owners: dict[tuple[str, str], str] = {}
        self.states: dict[str, Mapping[str, str]] = {}
        self.runs: dict[str, int] = {}
        self.log: list[str] = []

    def begin(self, source: str) -> Run:
        self.runs[source] = self.runs.get(source, 0) + 1
        return Run(source, self.runs[source], state=self.states.get(source, {}))

    def is_newest(self, run: Run) -> bool:
        return self.runs.get(run.source, 0) <= run.number

    def write(
        self, run: Run, formerly: Collection[str], documents: Sequence[Prepared]
    ) -> list[Fate]:
        fates = []
        for one in documents:
            key = (one.type, one.id)
            stored = self.documents.get(key)
            if self.owners.get(key, run.source) not in {run.source, *formerly}:
                fates.append(Fate("elsewhere"))
            elif stored is not None and stored.hash == one.hash:
                fates.append(Fate("unchanged"))
            else:
                self.documents[key], self.owners[key] = one, run.source
                self.log.append(f"write {one.id}")
                fates.append(Fate("written"))
        return fates

    def look(
        self, run: Run, formerly: Collection[str], type_: str, ids: Sequence[str]
    ) -> list[Fate]:
        return [Fate("unchanged" if (type_, i) in self.documents else "missing") for i in ids]

    def prune(self, run: Run, formerly: Collection[str], seen: Callable[[str, str], bool]) -> int:
        gone = [k for k in self.documents if not seen(*k) and self.owners[k] == run.source]
        for key in gone:
            del self.documents[key]
        self.log.append(f"prune {len(gone)}")
        return len(gone)

    def finish(self, run: Run, state: Mapping[str, str]) -> bool:
        self.states[run.source] = state
        self.log.append(f"state {dict(state)}")
        return True


def post(key: str, text: str = "text") -> Collected:
    return Collected("posts", key, {"platform": "x", "content": text})


def run(
    store: MemoryStore, *readings: Reading | Failed, prune: bool = False, batch_size: int = 3
) -> Report:
    """One run of a source "s"."""
    steps: list[Step] = [store.begin("s"), *readings]
    report = Report()
    writer = Writer(store, {"s": Policy(prune=prune)})
    source = TestingSource([("s", step) for step in steps], batch_size)
    run_main(build(source, writer, report), epoch_interval=timedelta(0))
    return report


def test_the_state_is_stored_after_every_document_before_it() -> None:
    store = MemoryStore()
    run(store, *(post(str(i)) for i in range(7)), Finished({"etag": "1"}, whole=False))
    assert store.log == [*(f"write {i}" for i in range(7)), "state {'etag': '1'}"]


def test_a_second_run_writes_nothing_and_an_edit_one_document() -> None:
    store = MemoryStore()
    posts = [post(str(i)) for i in range(5)]
    run(store, *posts, Finished({}, whole=True))
    store.log.clear()
    assert "5 unchanged" in run(store, *posts, Finished({}, whole=True)).line("s")
    assert store.log == ["state {}"]
    posts[2] = post("2", "another text")
    run(store, *posts, Finished({}, whole=True))
    assert store.log.count("write 2") == 1


def test_a_source_that_calls_everything_updated_just_now_causes_no_write() -> None:
    store = MemoryStore()
    for day in (1, 2):
        fields = {"content": "text", "updated_at": datetime(2026, 1, day, tzinfo=timezone.utc)}
        run(store, Collected("posts", "a", fields), Finished({}, whole=True))
    assert store.log.count("write a") == 1


def test_a_source_that_fails_keeps_its_state_and_its_documents() -> None:
    store = MemoryStore()
    run(store, post("a"), Finished({"etag": "1"}, whole=True), prune=True)
    report = run(store, post("b"), Failed("the server is away"), prune=True)
    assert report.failed
    assert "the server is away" in report.line("s")
    assert store.states["s"] == {"etag": "1"}
    assert {id_ for _, id_ in store.documents} == {"a", "b"}


def test_one_source_that_fails_does_not_stop_the_others() -> None:
    store = MemoryStore()
    steps: list[tuple[str, Step]] = [
        ("one", store.begin("one")), ("two", store.begin("two")),
        ("one", Failed("away")), ("two", post("a")), ("two", Finished({}, whole=True)),
    ]  # fmt: skip
    report = Report()
    source = TestingSource(steps, 2)
    run_main(build(source, Writer(store, {}), report), epoch_interval=timedelta(0))
    assert "1 written" in report.line("two")
    assert "away" in report.line("one")


PRUNED = {
    "a whole listing": ([post("a"), Finished({}, whole=True)], True, {"a"}),
    "not asked for": ([post("a"), Finished({}, whole=True)], False, {"a", "b", "c"}),
    "an error": ([post("a"), Failed("x")], True, {"a", "b", "c"}),
    "a window": ([post("a"), Finished({}, whole=False)], True, {"a", "b", "c"}),
    "an empty listing": ([Finished({}, whole=True)], True, {"a", "b", "c"}),
    "what was refused stays": (
        [post("a"), Refused("posts", "b", "x"), Finished({}, whole=True)], True, {"a", "b"},
    ),
    "what is unchanged stays": (
        [Present("posts", "a"), Present("posts", "c"), Finished({}, whole=True)], True, {"a", "c"},
    ),
    "what MongoDB cannot hold stays": (
        [post("a"), Collected("posts", "b", {"n": 2**70}), Finished({}, whole=True)],
        True, {"a", "b"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PRUNED.values(), ids=PRUNED.keys())
def test_only_what_a_whole_listing_lacks_is_deleted(
    case: tuple[list[Reading | Failed], bool, set[str]],
) -> None:
    second, prune, left = case
    store = MemoryStore()
    run(store, post("a"), post("b"), post("c"), Finished({}, whole=True))
    run(store, *second, prune=prune)
    assert {id_ for _, id_ in store.documents} == left


def test_a_document_that_was_deleted_by_hand_is_read_again() -> None:
    store = MemoryStore()
    run(store, post("a"), Finished({"etag": "1"}, whole=False))
    store.documents.clear()
    run(store, Present("posts", "a"), Finished({"etag": "1"}, whole=False))
    assert store.states["s"] == {}


def test_a_link_that_is_offered_twice_with_two_texts_does_not_flap() -> None:
    store = MemoryStore()
    for _ in range(3):
        run(store, post("a", "one"), post("a", "two"), Finished({}, whole=True), batch_size=1)
    assert store.log.count("write a") == 1


def test_a_run_that_another_collector_has_overtaken_writes_nothing_more() -> None:
    store = MemoryStore()
    writer = Writer(store, {"s": Policy(prune=True)})
    begun: list[tuple[str, Step]] = [("s", store.begin("s")), ("s", prepare(post("a")))]
    list(writer(begun))
    store.begin("s")
    [(_, tally)] = writer([("s", prepare(post("b")))])
    [(_, tally)] = writer([("s", Finished({"etag": "old"}, whole=True))])
    assert store.log == ["write a"]
    assert tally.ended


@pytest.mark.parametrize("state", [{"a": "\ud800"}, {"a": "x" * (LONGEST + 1)}])
def test_a_state_that_cannot_be_stored_ends_no_flow(state: dict[str, str]) -> None:
    store = MemoryStore()
    report = run(store, post("a"), Finished(state, whole=True))
    assert "its state" in report.line("s")
    assert store.states == {}


REFUSED = {
    "too large": Collected("posts", "a", {"content": "x" * (LONGEST + 1)}),
    "half a character": Collected("posts", "a", {"content": "\ud800"}),
    "half a character in its key": Collected("posts", "\ud800", {"content": "x"}),
    "no key": Collected("posts", "", {"content": "x"}),
    "no such type": Collected("videos", "a", {"content": "x"}),
    "a number without end": Collected("posts", "a", {"n": 2**64}),
    "nested too deep": Collected("posts", "a", json.loads('{"a": ' * 101 + "1" + "}" * 101)),
    "lists too deep": Collected("posts", "a", {"a": json.loads("[" * 101 + "]" * 101)}),
    "a value of no kind": Collected("posts", "a", {"n": object()}),
}


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED.keys())
def test_a_document_that_cannot_be_stored_stops_no_other(document: Collected) -> None:
    store = MemoryStore()
    report = run(store, document, post("good"), Finished({}, whole=True), prune=True)
    assert report.failed
    assert {id_ for _, id_ in store.documents} == {"good"}


def test_an_id_of_the_source_does_not_take_the_place_of_the_key() -> None:
    """An export of MongoDB has `_id` in every document, and perhaps `collected`."""
    fields = {"_id": "other", "collected": {"source": "x"}, "content": "c"}
    prepared = prepare(Collected("posts", "key", fields))
    assert isinstance(prepared, Prepared)
    assert (prepared.id, prepared.fields) == ("key", {"content": "c"})


def test_ids_are_the_keys_and_long_ones_stay_different() -> None:
    assert id_of("https://a.example/b") == "https://a.example/b"
    long = "https://a.example/" + "ä" * 1000
    assert len(id_of(long).encode()) <= 900
    assert id_of(long) != id_of(long + "x")


class Listed:
    """A reader of what it is given; each reading takes the next list."""

    def __init__(self, *readings: list[Reading | Exception]) -> None:
        self.readings = list(readings)
        self.states: list[Mapping[str, str]] = []

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        self.states.append(state)
        for one in self.readings.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


def collect_once(store: MemoryStore, **readers: Any) -> Report:
    """A run of `--once`."""
    report = Report()
    polled = [Polled(n, r, lambda n=n: store.begin(n)) for n, r in readers.items()]  # type: ignore[misc]
    source = PollingSource(polled, once=True)
    run_main(build(source, Writer(store, {}), report), epoch_interval=timedelta(0))
    source.close()
    return report


def test_every_source_is_read_once_whatever_comes_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    with caplog.at_level(logging.WARNING):
        report = collect_once(
            store,
            good=Listed([post("a"), Finished({"n": "1"}, whole=True)]),
            away=Listed([post("b"), SourceError("no answer")]),
            bug=Listed([ZeroDivisionError("by zero")]),
            short=Listed([post("c")]),
            partly=Listed([Refused("posts", "d", "a bot check"), Finished({}, whole=True)]),
        )
    assert {id_ for _, id_ in store.documents} == {"a", "b", "c"}
    assert set(store.states) == {"good", "partly"}
    assert "no answer" in report.line("away")
    assert "ZeroDivisionError: by zero" in report.line("bug")
    assert "ended before its end" in report.line("short")
    assert "partly: d: a bot check" in caplog.text


def test_the_next_run_begins_with_the_state_of_the_last_one() -> None:
    store = MemoryStore()
    reader = Listed([Finished({"n": "1"}, whole=True)], [Finished({"n": "2"}, whole=True)])
    for _ in range(2):
        collect_once(store, s=reader)
    assert reader.states == [{}, {"n": "1"}]


def test_a_reader_waits_while_nobody_takes_what_it_has_read() -> None:
    """Memory stays bounded however much there is."""
    handover = Handover()
    large = Collected("posts", "a", {"content": "x" * 3_000_000})
    assert handover.put(large)
    assert handover._is_full(3_000_000)
    assert handover.take() == [large]
    handover.close()
    assert not handover.put(large)


def test_metrics_count_each_source_by_outcome() -> None:
    from models.metrics import COLLECTED, COLLECTED_AGE

    report = Report()
    for tally in (
        Tally("metered", fetched=2, written=2),
        Tally("metered", fetched=5, written=4, unchanged=1, ended=True, succeeded=1.0),
        Tally("metered", fetched=1, unchanged=1, ended=True, succeeded=1.0),
    ):
        report.take(tally)
    counted = {
        sample.labels["outcome"]: sample.value
        for metric in COLLECTED.collect()
        for sample in metric.samples
        if sample.labels["source"] == "metered" and sample.name.endswith("_total")
    }
    assert counted == {"fetched": 6, "written": 4, "unchanged": 2, "deleted": 0, "failed": 0}
    [age] = [
        sample.value
        for metric in COLLECTED_AGE.collect()
        for sample in metric.samples
        if sample.labels["source"] == "metered"
    ]
    assert age == pytest.approx(time.time() - 1.0, abs=60)


def test_many_slow_sources_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C with thirty sources waited for one after the other: a minute."""
    monkeypatch.setattr("connectors.collect.polling._CLOSE_S", 0.05)
    answer = threading.Event()

    def begin() -> Run:
        answer.wait(10)
        raise SourceError("it has ended")

    slow = [Polled(f"s{number}", Listed(), begin) for number in range(30)]
    source = PollingSource(slow, once=True)
    parts = [source.build_part("", name, None) for name in source.list_parts()]
    began = time.monotonic()
    for part in parts:
        part.close()
    source.close()
    assert time.monotonic() - began < 1
    answer.set()
