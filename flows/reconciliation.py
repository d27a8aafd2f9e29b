"""The dataflow of `flows.reconcile`: joins MongoDB with the store by document, and judges.

    MongoDB → clean → chunk ↘
                             tally → look again → repair → queue
    Qdrant  ────────────────↗                   ↘ report

Bounded: it ends when both sides are read, and only then is anything judged. Of each document the
tally holds one number, see `flows.operators.tally`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import FixedPartitionedSink, Sink, StatefulSinkPartition
from typing_extensions import override

from connectors.qdrant import ScannedPoint
from flows.operators.attempt import attempt
from flows.operators.encode import encode
from flows.operators.judge import Expect, Expected, Finding, expected
from flows.operators.prepare import MAX_CHUNKS, Cleaner, chunk, clean_with, decode
from flows.operators.publish import Submit, publish
from flows.operators.tally import Tally, Weighed, weigh_expected, weigh_stored
from flows.text.chunk import Splitter
from models import CapturedChange, DeadLetter, Delivery, Message
from models.dead_letters import describe
from models.stored import Key

UNUSABLE = "unusable"
"""Kind of a document that the features flow would send to the dead letters."""
NAMELESS = "points without an entry_id"
"""Kind of points that belong to no document, and that no message can remove."""


def expect_with(
    chunker: Callable[[], Splitter], cleaner: Cleaner, model: str, most_chunks: int = MAX_CHUNKS
) -> Expect:
    """The points that a fresh sync stores of a document, which raises for one that is unusable.

    :param cleaner: cleans the texts of one document
    :param model: name of the embedder
    :param most_chunks: of a document
    """
    wire = encode([""])
    cut, clean = chunk(chunker, most_chunks), clean_with(cleaner)

    def expect(change: CapturedChange) -> tuple[Key, Expected]:
        [message] = wire(change)
        prepared = cut(clean(decode(Delivery("", message.body, message.headers))))
        return prepared.key, expected(prepared, change, model)

    return expect


Reported = Finding | DeadLetter | None
"""A finding, or a document that cannot be used, or none for a point that is nobody's."""


def build(
    documents: Source[CapturedChange],
    points: Source[ScannedPoint],
    expect: Expect,
    look_again: Callable[[Iterable[tuple[Key, int]]], Iterable[Finding]],
    submit: Submit,
    report: Sink[tuple[str, Reported]],
    repair: Callable[[Finding], Message | None],
) -> Dataflow:
    """The reconciliation dataflow.

    :param documents: every document in MongoDB
    :param points: every point in the store, see `connectors.qdrant.scan_points`
    :param expect: the points that a document should have
    :param look_again: judges documents that differ, each given with the way in which it does
    :param submit: takes repairs; see `flows.operators.publish`
    :param report: takes findings, and what cannot be repaired, each after its kind
    :param repair: makes the message that repairs a finding, if any is needed
    """

    def weigh(change: CapturedChange) -> tuple[str, Weighed]:
        return weigh_expected(*expect(change))

    def judge(tallies: list[tuple[str, Tally]]) -> Iterable[Finding]:
        return look_again(_differing(tallies)) if any(tally for _, tally in tallies) else ()

    flow = Dataflow("reconcile")
    scanned = op.input("mongodb_scan", flow, documents)
    wanted = attempt("clean_and_chunk", scanned, weigh, _unusable)
    stored = op.branch("stored", op.input("qdrant_scan", flow, points), _has_a_name)
    weighed = op.map("weigh", stored.trues, lambda point: weigh_stored(*point))
    sides = op.merge("both_sides", wanted.oks, weighed)
    tallies = op.fold_final("tally", sides, Tally, Tally.add)
    findings = op.flat_map_batch("look_again", tallies, judge)
    publish("publish_repairs", op.filter_map("repair", findings, repair), submit)
    unusable = op.map("unusable", wanted.errs, lambda letter: (UNUSABLE, letter))
    nameless = op.map("nameless", stored.falses, lambda _point: (NAMELESS, None))
    found = op.map("found", findings, lambda finding: (finding.kind, finding))
    op.output("report", op.merge("all_lines", found, unusable, nameless), report)
    return flow


class Report(FixedPartitionedSink[Reported, None]):
    """Collects what is wrong, in the memory of one process.

    Parallelism: none. Delivery: each item once, since nothing is resumed.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.kinds: Counter[str] = Counter()

    @override
    def list_parts(self) -> list[str]:
        """One list."""
        return ["report"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_ReportPartition":
        """The list."""
        return _ReportPartition(self)


class _ReportPartition(StatefulSinkPartition[Reported, None]):
    def __init__(self, report: Report) -> None:
        self._report = report

    @override
    def write_batch(self, values: list[Reported]) -> None:
        for value in values:
            if isinstance(value, Finding):
                self._report.findings.append(value)
                self._report.kinds[value.kind] += 1
            else:
                self._report.kinds[NAMELESS if value is None else UNUSABLE] += 1

    @override
    def snapshot(self) -> None:
        """Nothing is kept."""


def _has_a_name(point: ScannedPoint) -> bool:
    return point[3].get("entry_id") is not None


def _differing(tallies: Iterable[tuple[str, Tally]]) -> Iterator[tuple[Key, int]]:
    for type_, tally in tallies:
        for entry_id, weight in tally.differing().items():
            yield Key(type_, entry_id), weight


def _unusable(change: CapturedChange, error: Exception) -> DeadLetter:
    return DeadLetter(b"", "reconcile", describe(error), type=change.collection)
