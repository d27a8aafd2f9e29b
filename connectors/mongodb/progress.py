"""Shows how far a snapshot is: a bar on a terminal, log lines otherwise."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typing_extensions import Self

_LOG_EVERY_S = 5.0


class SnapshotProgress:
    """Progress over one collection.

    :param name: the collection
    :param total: rows expected, an estimate
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._logged = time.monotonic()
        self._log = logging.getLogger("connectors")
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("snapshot {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.add_task(name, total=total)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        if exc_type is None:
            self._log.info("snapshot of %s: %d documents, done", self._name, self._done)

    def advance(self) -> None:
        """One more row."""
        self._done += 1
        if self._bar:
            self._bar.advance(self._bar.task_ids[0])
        elif time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            self._log.info("snapshot of %s: %d of about %d", self._name, self._done, self._total)
