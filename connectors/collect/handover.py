"""What a reading thread hands to the dataflow: a few documents at a time, a few megabytes."""

import threading
from collections import deque
from typing import Any, Final

from models.collected import Collected, Step

_MAX_COUNT: Final = 200
_MAX_BYTES: Final = 4 * 2**20


class Handover:
    """A queue between a reading thread and the worker that takes from it."""

    def __init__(self) -> None:
        self._steps: deque[tuple[Step, int]] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._closed = False

    def put(self, step: Step) -> bool:
        """Hand over; waits for room. False: nobody takes any more."""
        size = _size(step.fields) if isinstance(step, Collected) else 100
        with self._room:
            # one larger than the limit goes through alone
            while not self._closed and self._steps and self._is_full(size):
                self._room.wait()
            if self._closed:
                return False
            self._steps.append((step, size))
            self._bytes += size
            return True

    def take(self) -> list[Step]:
        """Everything that waits."""
        with self._room:
            taken = [step for step, _ in self._steps]
            self._steps.clear()
            self._bytes = 0
            self._room.notify_all()
        return taken

    def close(self) -> None:
        """Let `put` return."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def _is_full(self, size: int) -> bool:
        return len(self._steps) >= _MAX_COUNT or self._bytes + size > _MAX_BYTES


def _size(value: Any) -> int:
    """About as many bytes as a value takes."""
    if isinstance(value, str | bytes):
        return len(value) + 50
    if isinstance(value, dict):
        return sum(_size(one) + len(key) + 50 for key, one in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 50
