"""Waiting for what is only away."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Backoff:
    """How long to wait before the next try: twice as long each time, bounded, with jitter, so that
    processes that lost a server together do not come back together.

    :param first: seconds before the second try
    :param longest: bound of the seconds, before jitter
    """

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = self._next = first
        self._longest = longest

    def next(self) -> float:
        """Seconds to wait now."""
        wait, self._next = self._next, min(self._longest, self._next * 2)
        return wait * random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """Note a success."""
        self._next = self._first


class Patience:
    """Waits for one dependency: retries for ever with bounded backoff, and logs one line when it
    goes away and one when it is back.

    :param name: the dependency, as a log line calls it
    :param away: tells an error that will pass from one that will not
    """

    def __init__(self, name: str, away: Callable[[BaseException], bool], max_wait: float = 5.0):
        self._name = name
        self._away = away
        self._max_wait = max_wait
        self._log = logging.getLogger("connectors")
        self._lock = threading.Lock()
        self._since: float | None = None

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, called until it does not fail for an absence.

        :raises Exception: what `function` raised, where that is no absence
        """
        backoff = Backoff(longest=self._max_wait)
        while True:
            try:
                result = function()
            except Exception as error:
                if not self._away(error):
                    raise
                self.away(error)
            else:
                self.back()
                return result
            time.sleep(backoff.next())

    def away(self, error: BaseException) -> None:
        """Note that the dependency is away; logs on the first call only."""
        with self._lock:
            first, self._since = self._since is None, self._since or time.monotonic()
        if first:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            self._log.warning("%s is away, waiting for it: %s", self._name, reason)

    def back(self) -> None:
        """Note that the dependency answers; logs if it was away."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            self._log.warning("%s is back after %.1f s", self._name, time.monotonic() - since)
