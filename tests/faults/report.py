"""The table of a matrix, in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone

from tests.faults.scenario import Result

_HEAD = (
    "| {} | sites | faults | runs | met | restarts | violations |",
    "|---|--:|---|--:|--:|--:|--:|",
)


_INTRODUCTION = """# Every call fails once

Made by `{command}` on {date}, in {minutes:.0f} minutes.

Every call that the flows, `make replay` and `make reconcile` make to pymongo, pika or
qdrant-client is made to fail: each line of code that makes one (a site) with each error that can
be the answer there. `after` means that the call took effect and only its answer was lost. Each
fault is met once in the middle of the calls of its site, and again by its first three calls.
Sites that are reached only after a fault fail as well, after that fault. Sites are found by
running the programs, so a new call is covered without an edit ([tests/faults](../tests/faults)).

A run ends well if both sides are in sync without help. It also ends well if the program ends with
one line and an exit code other than 0, and both sides are in sync after a restart. A program that
lives and does nothing, a traceback, a document that MongoDB has and Qdrant has not, and a lost
dead letter are violations. A document whose content Qdrant refuses becomes a dead letter, and
`make replay` has to put it back.

The first table says when the calls fail: from the start of a flow to the end of its snapshot,
under edits, deletes, drops and transactions, between SIGTERM and the end of the process, and in
each of the two commands. `met` counts the runs in which the call was made: which calls fall
between SIGTERM and the end differs from run to run.

"""


def page(results: Sequence[Result], command: str, minutes: float) -> str:
    """The tables, and how they were made."""
    today = datetime.now(timezone.utc).date()
    introduction = _INTRODUCTION.format(command=command, date=today, minutes=minutes)
    return introduction + report(results) + "\n"


def report(results: Sequence[Result]) -> str:
    """A table of all phases, then of the functions that call a driver, and of the faults."""
    return "\n\n".join(
        (
            _table("when", results, lambda result: result.phase, total=True),
            _table("fault of", results, _fault),
            _table("call", results, _function),
        )
    )


def _table(
    name: str, results: Sequence[Result], of: Callable[[Result], str], total: bool = False
) -> str:
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(of(result), []).append(result)
    lines = [line.format(name) for line in _HEAD]
    lines += [_row(row, rows[row]) for row in sorted(rows)]
    if total:
        lines.append(_row("**all**", results))
    return "\n".join(lines)


def _fault(result: Result) -> str:
    fault = result.faults[-1]
    return f"{fault.site.split()[0]}: {fault.kind}"


def _function(result: Result) -> str:
    """A call site without its line, which moves with every edit."""
    driver, method, where = result.faults[-1].site.split(" ", 2)
    where, _, step = where.partition(" for ")
    file, function, _line = where.split(":")
    step = step.partition(":")[2]
    suffix = f", for `{step}`" if step else ""
    return f"{driver} `{method}` in `{file}`, `{function}`{suffix}"


def _row(name: str, some: Iterable[Result]) -> str:
    some = list(some)
    cells = (
        name,
        len({result.faults[-1].site for result in some}),
        len({result.faults[-1].kind for result in some}),
        len(some),
        sum(result.met > 0 for result in some),
        sum(result.restarts for result in some),
        sum(bool(result.violations) for result in some),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
