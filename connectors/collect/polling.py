"""Sources that are read now and then, as an input of a dataflow."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from connectors.collect.handover import Handover
from connectors.patience import Backoff
from connectors.thread import ConnectorThread
from models.collected import Failed, Finished, Reader, Run, Step
from models.errors import ConfigurationError, SourceError

log = logging.getLogger("connectors")

AT_ONCE: Final = 4
"""Sources that are read at the same time in one process."""

_STILL_S: Final = 2 * 3600.0
"""The longest that a reader may take between two documents."""
_ACTIVE_S: Final = 0.02
_QUIET_S: Final = 0.25
_RETRY_S: Final = 30.0
_CLOSE_S: Final = 2.0
"""The longest that the end of all readings is waited for."""
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Polled:
    """A source, and when it is read."""

    name: str
    reader: Reader
    begin: Callable[[], Run]
    """Begins a run, with the state that the last one has left; raises SourceError where it cannot
    be had."""
    interval_s: float = 900.0


class PollingSource(FixedPartitionedSource[tuple[str, Step], None]):
    """Reads each source, then again after its interval, or only once.

    Parallelism: a partition for each source, which reads in a thread of its own; four of a process
    at a time. Delivery: at least once. A run begins with the state that the last finished run has
    left in MongoDB, which is stored only when all of its documents are written. After a resume: a
    run that was not finished begins again from that state, and its documents come again. A recovery
    directory adds nothing and costs nothing.

    :param sources: each with a name of its own
    :param once: end when each has been read
    :param stopping: when set, the source ends
    """

    def __init__(
        self,
        sources: Sequence[Polled],
        *,
        once: bool = False,
        stopping: threading.Event | None = None,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._once = once
        self._stopping = stopping or threading.Event()
        self._turn = threading.Semaphore(AT_ONCE)
        self._built: list[_Partition] = []

    @override
    def list_parts(self) -> list[str]:
        """One for each source."""
        return list(self._sources)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_Partition":
        """Start reading a source."""
        reading = _Reading(self._sources[for_part], self._once, self._turn)
        partition = _Partition(for_part, reading, self._stopping)
        self._built.append(partition)
        return partition

    def close(self) -> None:
        """End all reading, as far as it ends soon. Never raises."""
        for partition in self._built:
            partition.close()
        until = time.monotonic() + _CLOSE_S
        for partition in self._built:
            partition.wait(max(0.0, until - time.monotonic()))


class _Reading:
    """The thread that reads one source, run after run."""

    def __init__(self, source: Polled, once: bool, turn: threading.Semaphore) -> None:
        self._source = source
        self.once = once
        self._turn = turn
        self._written = threading.Event()
        self._backoff = Backoff(_RETRY_S, max(_RETRY_S, source.interval_s))
        self.handover = Handover()
        self.thread = ConnectorThread(f"reader of {source.name}", self._work, _STILL_S)

    def written(self) -> None:
        """Note that everything handed over has been written."""
        self._written.set()

    def end_soon(self) -> None:
        """Ask the thread to end."""
        self.thread.end_soon()
        self._written.set()
        self.handover.close()

    def _work(self) -> None:
        while not self.thread.closing:
            self._written.clear()
            wait_s = self._one_run()
            if self.once:
                # the thread may not end by itself; the dataflow does
                self._idle(float("inf"))
                return
            # A run that began before the last one is written would not know of it.
            while not self._written.wait(60.0):
                self.thread.beat()
            self._idle(wait_s)

    def _one_run(self) -> float:
        """Read everything once; how long to wait before the next time."""
        while not self._turn.acquire(timeout=60.0):
            self.thread.beat()
        try:
            for step in self._steps():
                self.thread.beat()
                if not self.handover.put(step):
                    return 0.0
        except SourceError as error:
            self.handover.put(Failed(str(error)))
            wait_s = min(self._backoff.next(), self._source.interval_s)
            return max(wait_s, min(error.retry_s, _DAY_S))
        except ConfigurationError:
            raise
        except Exception as error:
            log.debug("%s could not be read", self._source.name, exc_info=True)
            described = " ".join(str(error).split())[:200]
            self.handover.put(Failed(f"{type(error).__name__}: {described}"))
            return min(self._backoff.next(), self._source.interval_s)
        finally:
            self._turn.release()
        self._backoff.reset()
        return self._source.interval_s

    def _steps(self) -> Iterator[Step]:
        run = self._source.begin()
        yield run
        last: Step = run
        reading = self._source.reader.read(run.state)
        try:
            for last in reading:
                yield last
        finally:
            if isinstance(reading, Generator):
                reading.close()
        if not isinstance(last, Finished):
            raise SourceError("the reader has ended before its end")

    def _idle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.thread.closing and (left := until - time.monotonic()) > 0:
            self.thread.pause(min(left, 60.0))


class _Partition(StatefulSourcePartition[tuple[str, Step], None]):
    def __init__(self, name: str, reading: _Reading, stopping: threading.Event) -> None:
        self._name = name
        self._reading = reading
        self._stopping = stopping
        self._once = reading.once
        self._ended = self._closing = self._over = False
        self._active_at = 0.0
        reading.thread.start()

    @override
    def next_batch(self) -> list[tuple[str, Step]]:
        # The first call after snapshot() of an epoch runs when everything handed on up to that
        # snapshot has passed every output.
        if self._closing:
            self._closing = False
            self._reading.written()
        self._reading.thread.check()
        if self._stopping.is_set() or (self._over and self._once):
            raise StopIteration
        steps = self._reading.handover.take()
        if steps:
            self._active_at = time.monotonic()
            self._ended = self._over = isinstance(steps[-1], Finished | Failed)
        return [(self._name, step) for step in steps]

    @override
    def next_awake(self) -> datetime:
        active = time.monotonic() - self._active_at < 1.0
        wait_s = _ACTIVE_S if active or self._once else _QUIET_S
        return datetime.now(timezone.utc) + timedelta(seconds=wait_s)

    @override
    def snapshot(self) -> None:
        if self._ended:
            self._ended = False
            self._closing = True

    @override
    def close(self) -> None:
        # many that read slowly are waited for together, by the source
        self._reading.end_soon()

    def wait(self, seconds: float) -> None:
        self._reading.thread.close(seconds)
