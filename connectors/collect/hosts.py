"""How soon a host may be asked again, by all sources of this process together."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_WAIT_S: Final = 60.0
"""A `Retry-After` up to this is waited for; a longer one ends the reading."""
DAY_S: Final = 86400.0
"""No server is believed that asks for more."""


class LeftAloneError(Exception):
    """A host has asked to be left alone, for longer than anybody waits for it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the server asked not to be asked for {seconds:.0f} s")
        self.seconds = seconds


class Hosts:
    """Gives out the moments at which a host may be asked.

    :param clock: seconds that only grow
    :param pause: waits for some seconds
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self.pause = pause
        self._lock = threading.Lock()
        self._free: dict[str, float] = {}
        self._left_alone: dict[str, float] = {}

    def wait(self, host: str, delay_s: float) -> None:
        """Return when it is time to ask a host, `delay_s` after the last time at the earliest.

        :raises LeftAloneError: that is more than a minute away, as the host has asked
        """
        with self._lock:
            now = self._clock()
            alone_s = self._left_alone.get(host, now) - now
            if alone_s > LONGEST_WAIT_S:
                raise LeftAloneError(alone_s)
            slot = max(now, self._free.get(host, now), now + alone_s)
            self._free[host] = slot + delay_s
        if slot > now:
            self.pause(slot - now)

    def leave_alone(self, host: str, seconds: float) -> None:
        """Ask a host for nothing meanwhile, a day at most."""
        with self._lock:
            until = self._clock() + min(seconds, DAY_S)
            self._left_alone[host] = max(until, self._left_alone.get(host, until))


def seconds_of(retry_after: str) -> float:
    """How long a `Retry-After` asks to wait: seconds or a date; 0 for anything else."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return 0.0
    aware = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return max(0.0, (aware - datetime.now(timezone.utc)).total_seconds())
