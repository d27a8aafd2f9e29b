"""What a person, and the metrics, learn of the collecting."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from flows.operators.readable import Failure
from models.collected import Failed, Tally
from models.metrics import COLLECTED, COLLECTED_AGE

log = logging.getLogger("flows")

Reported = Tally | Failure

_EVERY_S: Final = 5.0
_SHOWN: Final = 5
"""Refused documents of one reading that get a line of their own."""
_REMEMBERED: Final = 10_000
_COUNTED: Final = ("fetched", "written", "unchanged", "deleted", "failed")


class Report(FixedPartitionedSink[Reported, None]):
    """Counts what has come of each source, and says so.

    Parallelism: none. Delivery: at most once, since nothing is resumed.

    :param sources: their names
    """

    def __init__(
        self, sources: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        for source in sources:
            _show_age(source, time.time())
        self.failed = False
        """Whether anything could not be read or written."""
        self._clock = clock
        self._tallies: dict[str, Tally] = {}
        self._began: dict[str, float] = {}
        self._shown: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()
        self._reasons: dict[str, str] = {}

    @override
    def list_parts(self) -> list[str]:
        """One report."""
        return ["report"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_ReportPartition":
        """The report."""
        return _ReportPartition(self)

    def line(self, source: str) -> str:
        """What has come of the last reading of a source."""
        tally = self._tallies.get(source)
        if tally is None:
            return f"{source}: not read"
        counts = ", ".join(
            f"{getattr(tally, name):,} {name}"
            for name in _COUNTED
            if name not in ("deleted", "failed") or getattr(tally, name)
        )
        return f"{source}: {counts}{f' ({tally.reason})' if tally.reason else ''}"

    def take(self, reported: Reported) -> None:
        """Count, and say what is news."""
        if isinstance(reported, Failure):
            self._refused(reported)
        else:
            self._tally(reported)

    def _refused(self, failure: Failure) -> None:
        self.failed = True
        if isinstance(failure.step, Failed):
            return  # the tally tells
        shown = self._shown[failure.source] = self._shown.get(failure.source, 0) + 1
        line = f"{failure.step.key or 'a document'}: {failure.step.reason}"
        if shown <= _SHOWN and (failure.source, line) not in self._told:
            if len(self._told) > _REMEMBERED:
                self._told.clear()
            self._told.add((failure.source, line))
            log.warning("%s: %s", failure.source, line)

    def _tally(self, tally: Tally) -> None:
        before = self._tallies.get(tally.source)
        if before is None or before.ended:
            before = Tally(tally.source)
            self._began[tally.source] = self._clock()
        for name in _COUNTED:
            COLLECTED.labels(tally.source, name).inc(getattr(tally, name) - getattr(before, name))
        self._tallies[tally.source] = tally
        if tally.succeeded:
            _show_age(tally.source, tally.succeeded)
        self.failed = self.failed or bool(tally.failed)
        if tally.ended:
            self._shown.pop(tally.source, None)
            self._say_end(tally)
        elif self._clock() - self._began[tally.source] > _EVERY_S:
            self._began[tally.source] = self._clock()
            log.info("%s …", self.line(tally.source))

    def _say_end(self, tally: Tally) -> None:
        known = self._reasons.get(tally.source, "")
        self._reasons[tally.source] = tally.reason
        if tally.failed and tally.reason != known:
            log.warning("%s", self.line(tally.source))
        elif tally.written or tally.deleted or (known and not tally.failed):
            log.info("%s", self.line(tally.source))
        else:
            log.debug("%s", self.line(tally.source))


def _show_age(source: str, since: float) -> None:
    COLLECTED_AGE.labels(source).set_function(lambda: time.time() - since)


class _ReportPartition(StatefulSinkPartition[Reported, None]):
    def __init__(self, report: Report) -> None:
        self._report = report

    @override
    def write_batch(self, values: list[Reported]) -> None:
        for value in values:
            self._report.take(value)

    @override
    def snapshot(self) -> None:
        """Nothing is kept."""
