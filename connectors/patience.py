"""Waiting for what is only away."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Absence(NamedTuple):
    """An absence in words."""

    reason: str
    remedy: str = ""
    """For what does not pass by itself: how a person ends it."""


def explain(error: BaseException) -> Absence:
    """An absence that passes by itself."""
    return Absence(" ".join(str(error).split())[:200] or type(error).__name__)


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
    goes away, one for each remedy that it comes to need, and one when it is back.

    :param name: the dependency, as a log line calls it
    :param away: tells an error to wait for from one that is not
    :param explain: puts an error to wait for into words
    """

    def __init__(
        self,
        name: str,
        away: Callable[[BaseException], bool],
        max_wait: float = 5.0,
        explain: Callable[[BaseException], Absence] = explain,
    ) -> None:
        self._name = name
        self._away = away
        self._max_wait = max_wait
        self._explain = explain
        self._log = logging.getLogger("connectors")
        self._lock = threading.Lock()
        self._since: float | None = None
        self._remedies: set[str] = set()

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
        """Note that the dependency is away, or refuses; logs where that is news."""
        reason, remedy = self._explain(error)
        with self._lock:
            self._since = self._since or time.monotonic()
            known = remedy in self._remedies
            self._remedies.add(remedy)
        if known:
            return
        if remedy:
            self._log.warning("%s refuses, waiting: %s (%s)", self._name, reason, remedy)
        else:
            self._log.warning("%s is away, waiting for it: %s", self._name, reason)

    def back(self) -> None:
        """Note that the dependency answers; logs if it was away."""
        with self._lock:
            since, self._since = self._since, None
            self._remedies.clear()
        if since is not None:
            self._log.warning("%s is back after %.1f s", self._name, time.monotonic() - since)
