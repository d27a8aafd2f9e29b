"""How soon a host may be asked again, by all sources of this process together."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


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

    def wait(self, host: str, delay_s: float) -> None:
        """Return when it is time to ask a host, `delay_s` after the last time at the earliest."""
        with self._lock:
            now = self._clock()
            slot = max(now, self._free.get(host, now))
            self._free[host] = slot + delay_s
        if slot > now:
            self.pause(slot - now)

    def leave_alone(self, host: str, seconds: float) -> None:
        """Ask a host for nothing meanwhile."""
        with self._lock:
            until = self._clock() + seconds
            self._free[host] = max(until, self._free.get(host, until))


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
