"""How often a source looks whether there is something new."""

import time
from datetime import datetime, timedelta, timezone
from typing import Final

_SOON: Final = timedelta(milliseconds=1)
_SELDOM: Final = timedelta(milliseconds=35)
_ACTIVE_S: Final = 2.0


class Pace:
    """Looks again at once while there is something, soon after it, seldom when it is quiet.

    Bytewax cannot be woken by another thread, so the wait between two looks is a part of the
    freshness, and the number of looks the cost of doing nothing. It wants a time of the wall clock,
    which may be set back: see `flows.clock`.
    """

    def __init__(self) -> None:
        self._found = False
        self._found_at = float("-inf")

    def note(self, found: bool) -> None:
        """Note whether the last look found anything."""
        self._found = found
        if found:
            self._found_at = time.monotonic()

    def next_awake(self) -> datetime | None:
        """When to look again; None for at once."""
        if self._found:
            return None
        active = time.monotonic() - self._found_at < _ACTIVE_S
        return datetime.now(timezone.utc) + (_SOON if active else _SELDOM)
