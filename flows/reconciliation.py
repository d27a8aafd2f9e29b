"""The dataflow of `flows.reconcile`: joins MongoDB with the store by document, and judges.

    MongoDB → clean → chunk ↘
                             join → judge → repair → queue
    Qdrant  ────────────────↗         ↘ report

Bounded: it ends when both sides are read, and only then is anything judged.
"""

import json
from collections import Counter
from collections.abc import Callable

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import FixedPartitionedSink, Sink, StatefulSinkPartition
from typing_extensions import override

from connectors.qdrant import ScannedPoint
from flows.operators.attempt import attempt
from flows.operators.judge import Expected, Finding, Sides, expected, gather, judge
from flows.operators.prepare import Cleaner, chunk, clean_with, decode
from flows.operators.publish import Submit, publish
from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from models import CapturedChange, ChangeEvent, DeadLetter, Delivery, Message
from models.dead_letters import describe
from models.stored import Key

UNUSABLE = "unusable"
"""Kind of a document that the features flow would send to the dead letters."""


def build(
    documents: Source[CapturedChange],
    points: Source[ScannedPoint],
    chunker: Callable[[], Splitter],
    model: str,
    submit: Submit,
    report: Sink[tuple[str, Finding | DeadLetter]],
    repair: Callable[[Finding], Message | None],
    cleaner: Cleaner = clean_texts,
) -> Dataflow:
    """The reconciliation dataflow.

    :param documents: every document in MongoDB
    :param points: every point in the store, see `connectors.qdrant.scan_points`
    :param model: name of the embedder
    :param submit: takes repairs; see `flows.operators.publish`
    :param report: takes findings, and documents that cannot be used, each after its kind
    :param repair: makes the message that repairs a finding, if any is needed
    :param cleaner: cleans the texts of one document
    """
    cut, clean = chunk(chunker), clean_with(cleaner)

    def expect(change: CapturedChange) -> tuple[str, Expected]:
        message = ChangeEvent.from_change(change).to_message("")
        prepared = cut(clean(decode(Delivery("", message.body, message.headers))))
        return _name(prepared.key), expected(prepared, change, model)

    def judge_sides(named: tuple[str, Sides]) -> Finding | None:
        return judge(Key(*json.loads(named[0])), named[1])

    flow = Dataflow("reconcile")
    scanned = op.input("mongodb_scan", flow, documents)
    wanted = attempt("clean_and_chunk", scanned, expect, _unusable)
    stored = op.map("stored", op.input("qdrant_scan", flow, points), lambda p: (_name(p[0]), p[1:]))
    sides = op.merge("both_sides", wanted.oks, stored)
    joined = op.fold_final("join", sides, Sides, gather)
    findings = op.filter_map("judge", joined, judge_sides)
    publish("publish_repairs", op.filter_map("repair", findings, repair), submit)
    unusable = op.map("unusable", wanted.errs, lambda letter: (UNUSABLE, letter))
    found = op.map("found", findings, lambda finding: (finding.kind, finding))
    op.output("report", op.merge("all_lines", found, unusable), report)
    return flow


class Report(FixedPartitionedSink[Finding | DeadLetter, None]):
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


class _ReportPartition(StatefulSinkPartition[Finding | DeadLetter, None]):
    def __init__(self, report: Report) -> None:
        self._report = report

    @override
    def write_batch(self, values: list[Finding | DeadLetter]) -> None:
        for value in values:
            if isinstance(value, Finding):
                self._report.findings.append(value)
                self._report.kinds[value.kind] += 1
            else:
                self._report.kinds[UNUSABLE] += 1

    @override
    def snapshot(self) -> None:
        """Nothing is kept."""


def _name(key: Key) -> str:
    return json.dumps(key)


def _unusable(change: CapturedChange, error: Exception) -> DeadLetter:
    return DeadLetter(b"", "reconcile", describe(error), type=change.collection)
