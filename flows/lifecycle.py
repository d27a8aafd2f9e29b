"""How a flow's process ends: drained by a signal, with one line for a user's mistake."""

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from flows.logs import complain
from models.errors import ConfigurationError, ConnectorFailedError
from models.shown import shown

GRACE_S = 8.0
"""From the signal to the end, whatever is still in flight."""

log = logging.getLogger("flows")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on standard error and exit code 1."""
    try:
        yield
    except ConfigurationError as error:
        sys.exit(shown(f"configuration error: {error}"))


def collect_rarely() -> None:
    """Have Python look for garbage a hundred times less often.

    What a flow makes lives for milliseconds and is in no cycle. The search costs three per cent of
    the capture, and the features flow the more the larger an embedded store is.
    """
    gc.set_threshold(100_000, 50, 100)


def drain_on_signals(
    stopping: threading.Event, finish: Callable[[], None], close: Callable[[], None] = lambda: None
) -> None:
    """Let SIGTERM and SIGINT end the dataflow that is about to run.

    1. the signal sets `stopping`, the sources end, what is in flight is written
    2. the dataflow is complete, its process comes to its end
    3. `finish` acknowledges and stores what step 1 has written; not after an error

    What cannot be written within eight seconds is left to redelivery, as after a kill -9.

    :param stopping: read by the sources
    :param finish: runs when the dataflow has ended by a signal and without an error; what it
        raises is exit code 1
    :param close: runs last, also after an error
    """
    failed = threading.Event()

    def stop(signum: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + signum)
        stopping.set()
        log.info("stopping: finishing what is in flight")
        watchdog = threading.Timer(GRACE_S, _leave)
        watchdog.daemon = True
        watchdog.start()

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
            sys.__excepthook__(kind, error, traceback)
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
            logging.shutdown()
            os._exit(1)
        close()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sys.excepthook = on_error
    atexit.register(at_exit)
    log.info("ready: SIGTERM ends this flow in good order")


def _leave() -> None:
    log.warning("still busy after %.0f s: what is not acknowledged comes again", GRACE_S)
    logging.shutdown()
    os._exit(0)
