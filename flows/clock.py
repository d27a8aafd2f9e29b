"""A wall clock that is set back: Bytewax stands still for as long, so its process starts again.

Bytewax 0.21 closes epochs and wakes sources by the wall clock (`src/inputs.rs`: `Utc::now()`). No
source can mend that from within: an epoch that stays open for hours acknowledges nothing.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

RESTART_S = 5.0
"""A flow sits out a smaller step: to start again would take as long."""
_LOOK_EVERY_S = 0.5
_SLEWED_S = 0.1
"""A clock that is only slowed down loses less than this between two looks."""

log = logging.getLogger("flows")


class ClockWatch:
    """Compares the wall clock with one that nobody can set.

    :param wall: seconds of the clock that may be set
    :param steady: seconds of the clock that only goes on
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def set_back(self) -> float:
        """Seconds by which the wall clock was set back since the last look; 0 if it was not."""
        before, self._ahead = self._ahead, self._wall() - self._steady()
        lost = before - self._ahead
        return lost if lost > _SLEWED_S else 0.0


def restart_when_set_back(stopping: threading.Event) -> None:
    """Watch the clock from a thread; a large step back starts this process again, in place.

    Unacknowledged messages come again, as after a kill -9.

    :param stopping: a flow that is about to end is left to that
    """
    watch = ClockWatch()

    def look() -> None:
        while not stopping.wait(_LOOK_EVERY_S):
            step = watch.set_back()
            if step >= RESTART_S:
                log.warning("the clock was set back by %.0f s: starting again", step)
                _start_again()
            elif step:
                log.warning("the clock was set back by %.1f s: waiting as long", step)

    threading.Thread(target=look, name="clock", daemon=True).start()


def _start_again() -> None:
    logging.shutdown()
    spec = sys.modules["__main__"].__spec__
    try:
        if spec is not None and spec.name == "bytewax.run":
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    finally:
        # Part of a larger program, or there is no such Python any more: that is for others to
        # start again.
        os._exit(1)
