"""Waiting for what is only away."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

T = TypeVar("T")


class Patience:
    """Waits for one dependency: retries for ever with bounded backoff, and logs one line when it
    goes away and one when it is back.

    :param name: the dependency, as a log line calls it
    :param away: tells an error that will pass from one that will not
    """

    def __init__(self, name: str, away: Callable[[BaseException], bool], max_wait: float = 5.0):
        self._name = name
        self._away = away
        self._log = logging.getLogger("connectors")
        self._lock = threading.Lock()
        self._since: float | None = None
        self._retry = Retrying(
            retry=retry_if_exception(away),
            wait=wait_exponential(multiplier=0.1, max=max_wait),
            before_sleep=self._note,
            reraise=True,
        )

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, called until it does not fail for an absence.

        :raises Exception: what `function` raised, where that is no absence
        """
        result = self._retry.copy()(function)
        self.back()
        return result

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

    def _note(self, state: RetryCallState) -> None:
        if state.outcome is not None and (error := state.outcome.exception()) is not None:
            self.away(error)
