"""The end of the demo: whether both sides are in sync, and what that has cost."""

from collections.abc import Callable, Sequence
from typing import Final

from rich import box
from rich.table import Table

from connectors.qdrant import vectors_of
from examples.edits import Edit
from examples.pipeline import Pipeline
from examples.screen import Screen
from examples.stopwatch import quantile
from models import DOCUMENT_TYPES, entry_id_of
from retrieval.sync import State, compare

_PROBLEMS_SHOWN: Final = 5


def sum_up(
    screen: Screen,
    pipeline: Pipeline,
    loaded: State,
    planned: Sequence[Edit],
    seconds: Sequence[float],
) -> int:
    """Stop the flows, compare once more, print the summary, and return the exit status."""
    expected = pipeline.expected()
    statuses = pipeline.flows.stop()
    stored = pipeline.stored()
    failed = [f"flows.{name} ended with status {code}" for name, code in statuses.items() if code]
    problems = [*failed, *compare(expected, stored)]
    embedded = pipeline.flows.totals("features").get("embedded")
    in_all = "" if embedded is None else f", {embedded:,} in all"
    new, kept = _cost_of_edits(loaded, stored, planned)

    screen.title("Summary")
    screen.table(_table(pipeline, expected, stored))
    screen.facts(
        {
            "in sync": "no" if problems else "yes: ids and payloads equal those of a fresh sync",
            "commit to searchable": f"median {quantile(seconds, 0.5) * 1000:,.0f} ms, "
            f"99th percentile {quantile(seconds, 0.99) * 1000:,.0f} ms, of {len(seconds)} edits",
            "chunks embedded": f"{new:,} for the edits" + in_all,
            "chunks saved": f"{kept:,} of the edited documents were kept, not embedded again",
            "dead letters": f"{pipeline.dead_letters():,}",
            "time in all": f"{screen.seconds:.0f} s",
        }
    )
    for problem in problems[:_PROBLEMS_SHOWN]:
        screen.note(problem)
    return 1 if problems else 0


def _cost_of_edits(loaded: State, stored: State, planned: Sequence[Edit]) -> tuple[int, int]:
    """How many chunks the edits brought, and how many the edited documents have kept."""
    edited = {(edit.collection, entry_id_of(edit.identity)) for edit in planned}
    new = kept = 0
    for type_ in DOCUMENT_TYPES:
        before = loaded.points.get(vectors_of(type_), {})
        for id_, point in stored.points.get(vectors_of(type_), {}).items():
            if id_ not in before:
                new += 1
            elif (type_, point.payload["entry_id"]) in edited:
                kept += 1
    return new, kept


def _table(pipeline: Pipeline, expected: State, stored: State) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("type", "all")
    columns: tuple[tuple[str, Callable[[str], int]], ...] = (
        ("documents in MongoDB", lambda type_: pipeline.database[type_].count_documents({})),
        ("in Qdrant", stored.documents),
        ("chunks of a fresh sync", expected.chunks),
        ("in Qdrant", stored.chunks),
    )
    for heading, count in columns:
        total = sum(count(type_) for type_ in DOCUMENT_TYPES)
        table.add_column(heading, f"{total:,}", justify="right")
    for type_ in DOCUMENT_TYPES:
        table.add_row(type_, *(f"{count(type_):,}" for _, count in columns))
    return table
