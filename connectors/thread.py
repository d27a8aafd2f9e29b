"""The thread of a connector: a flow cannot live on without noticing that one has died."""

import logging
import threading
import time
from collections.abc import Callable
from traceback import extract_tb
from types import TracebackType

from models.errors import ConfigurationError, ConnectorFailedError

log = logging.getLogger("connectors")

_WATCHED_S = 5.0


class ConnectorThread:
    """Runs the work of a source or sink, which asks `check` each time that it is called.

    The work may end after `close` and no sooner: however else it ends, by an exception or by a
    plain return, is a failure. So is work that stands still: it calls `beat` wherever it gets on,
    and retrying what is away is getting on. `check` raises the failure, and the flow ends with it.

    :param name: of the thread, and of what failed
    :param work: runs once, until `closing`
    :param still_s: seconds without a beat that count as a failure; longer than the longest call
        that a server may answer late
    """

    def __init__(self, name: str, work: Callable[[], None], still_s: float = 900.0) -> None:
        self._name = name
        self._work = work
        self._still_s = still_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._starting = threading.Lock()
        self._started = False
        self._closing = threading.Event()
        self._failure: Exception | None = None
        self._beats = 0
        self._seen = (0, 0.0)
        self._still = 0.0

    def start(self) -> None:
        """Start the work, unless that was done before."""
        with self._starting:
            if not self._started:
                self._seen = (self._beats, time.monotonic())
                self._thread.start()
                self._started = True

    def beat(self) -> None:
        """Note progress; called by the work itself."""
        self._beats += 1

    @property
    def closing(self) -> bool:
        """Whether the work is to end."""
        return self._closing.is_set()

    def pause(self, seconds: float) -> None:
        """Sleep between two tries, but not beyond `close`; called by the work itself."""
        self.beat()
        self._closing.wait(seconds)

    def end_soon(self) -> None:
        """Ask the work to end, without waiting for it."""
        self._closing.set()

    def close(self, timeout: float) -> bool:
        """Ask the work to end and wait for it; whether it has ended. Never raises."""
        self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what has ended the work, or that it stands still.

        :raises ConfigurationError: a person has to mend something
        :raises ConnectorFailedError: any other failure, on one line
        """
        if self._failure is None:
            self._look()
        if isinstance(self._failure, ConfigurationError | ConnectorFailedError):
            raise self._failure
        if self._failure is not None:
            raise ConnectorFailedError(_one_line(self._name, self._failure)) from self._failure

    def _look(self) -> None:
        now = time.monotonic()
        beats, at = self._seen
        self._seen = (self._beats, now)
        if self.closing or not self._started:
            return
        if not self._thread.is_alive() and self._failure is None:
            self._failure = RuntimeError("it has ended by itself")
        # A process that was stopped, or was busy elsewhere, has not watched: that does not count.
        self._still = self._still + min(now - at, _WATCHED_S) if beats == self._beats else 0.0
        if self._still > self._still_s and self._failure is None:
            self._failure = RuntimeError(f"it has stood still for {self._still_s:.0f} s")

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # SystemExit, too, must end the flow
            log.debug("%s has failed", self._name, exc_info=True)
            cause = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._failure = cause.with_traceback(error.__traceback__)


def _one_line(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"{name} has failed: {type(error).__name__}: {reason}{_place(error.__traceback__)}"


def _place(traceback: TracebackType | None) -> str:
    frames = extract_tb(traceback)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
