"""How a flow's process ends: drained by a signal, with one line for a user's mistake."""

import atexit
import gc
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from flows.clock import restart_when_set_back
from flows.logs import complain, complain_at_length
from models.errors import ConfigurationError, ConnectorFailedError
from models.shown import shown

GRACE_S = 8.0
"""The longest time from the signal to the end, even if work is still in flight."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("flows")

X = TypeVar("X")
S = TypeVar("S")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on standard error and exit code 1."""
    try:
        yield
    except ConfigurationError as error:
        sys.exit(shown(f"configuration error: {error}"))


def collect_rarely() -> None:
    """Have Python look for garbage a hundred times less often.

    The objects of a flow live for milliseconds and are in no cycle. The search costs the capture
    flow three per cent.
    """
    gc.set_threshold(100_000, 50, 100)


class StopSignal(threading.Event):
    """Set by SIGTERM or SIGINT; the sources look at it before each batch."""

    def __init__(self) -> None:
        super().__init__()
        self._looked_at = False
        self._running = False

    @property
    def begun(self) -> bool:
        """Whether something can be in flight.

        Not before a source has looked. The processes of a cluster have begun when all of them are
        there: one that leaves then, even one without a source, takes the others with it.
        """
        return self._looked_at or (self._running and _of_a_cluster())

    def watch(self, source: FixedPartitionedSource[X, S]) -> FixedPartitionedSource[X, S]:
        """The same source; it tells this signal when the dataflow runs."""
        return _Watched(source, self._run)

    @override
    def is_set(self) -> bool:
        self._looked_at = True
        return super().is_set()

    def _run(self) -> None:
        self._running = True


def _of_a_cluster() -> bool:
    # bytewax.run has read its arguments and variables when it calls for the flow.
    return getattr(sys.modules["__main__"], "addresses", None) is not None


class _Watched(FixedPartitionedSource[X, S]):
    """Bytewax lists the partitions in each process, when the processes have found each other."""

    def __init__(self, source: FixedPartitionedSource[X, S], run: Callable[[], None]) -> None:
        self._source = source
        self._run = run

    @override
    def list_parts(self) -> list[str]:
        self._run()
        return self._source.list_parts()

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: S | None
    ) -> StatefulSourcePartition[X, S]:
        return self._source.build_part(step_id, for_part, resume_state)


def drain_on_signals(
    stopping: StopSignal, finish: Callable[[], None], close: Callable[[], None] = lambda: None
) -> None:
    """Let SIGTERM and SIGINT end the dataflow that is about to run.

    1. the signal sets `stopping`, the sources end, and everything in flight is written
    2. the dataflow is complete, and its process is about to exit
    3. `finish` acknowledges and stores what step 1 has written, unless there was an error

    Work that takes longer than eight seconds is left to redelivery, as after a kill -9. Before
    the first batch there is nothing to write, and the process ends at once: while it loads its
    model, or waits for the other processes of a cluster.

    :param stopping: read by the sources, and watches them
    :param finish: runs if a signal has ended the dataflow and there was no error; if it raises,
        the exit code is 1
    :param close: runs last, also after an error
    """
    failed = threading.Event()

    def on_error(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        failed.set()
        cause: BaseException | None = error
        while cause is not None and not isinstance(
            cause, ConfigurationError | ConnectorFailedError
        ):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            complain_at_length(error)
        else:
            kind_ = "configuration error" if isinstance(cause, ConfigurationError) else "error"
            complain(f"{kind_}: {cause}")

    def at_exit() -> None:
        try:
            # The sources end by a signal only. A dataflow that is over without one was left by
            # another process of its cluster, and what that one held may not have been written.
            if stopping.is_set() and not failed.is_set():
                finish()
        except Exception as error:  # noqa: BLE001 (an exit code is all that is left to give)
            on_error(type(error), error, error.__traceback__)
            _leave(1)
        close()
        # From here Python gives signals their default back: one that comes now, as to a process
        # whose cluster has ended a moment before, would make an error of a good end.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    _on_signals(lambda signals: _stop(stopping, signals))
    restart_when_set_back(stopping)
    sys.excepthook = on_error
    atexit.register(at_exit)
    log.info("ready: SIGTERM ends this flow in good order")


def _on_signals(react: Callable[[int], None]) -> None:
    """Call `react` in a thread of its own with a file that holds the numbers of the signals.

    Not a handler: Python runs those in the main thread, which does not come by while Bytewax waits
    for the other processes of a cluster.
    """
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=react, args=(signals,), name="signals", daemon=True).start()


def _stop(stopping: StopSignal, signals: int) -> None:
    """Wait for a signal; then give the dataflow its grace, which a second signal ends."""
    os.read(signals, 1)
    stopping.set()
    if not stopping.begun:
        log.info("stopping: nothing is in flight yet")
        _leave(0)
    log.info("stopping: finishing what is in flight")
    if select.select([signals], [], [], GRACE_S)[0]:
        _leave(128 + os.read(signals, 1)[0])
    log.warning("still busy after %.0f s: what is not acknowledged comes again", GRACE_S)
    _leave(0)


def _leave(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)
