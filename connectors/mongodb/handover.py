"""The handover between the thread that reads and the dataflow: changes there, positions back."""

import threading
from collections import deque

from connectors.mongodb.positions import Position
from models import CapturedChange

MAX_ENTRIES = 4000
MAX_BYTES = 32 * 2**20
_LOOK_AGAIN_S = 0.5

Entry = tuple[CapturedChange | None, Position]
"""A change and the position after it; a position alone where only the token has moved on."""


class Handover:
    """A bounded buffer of changes, and the position that is to be stored next.

    One thread puts and stores, another one takes and asks for positions to be stored; neither
    waits for the other for longer than half a second, so that each can look after what else it
    has to do.
    """

    def __init__(self) -> None:
        # `put` is called for each event, and enters the lock itself: a Condition does it in Python
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._entries: deque[tuple[Entry, int]] = deque()
        self._bytes = 0
        self.to_store: Position | None = None
        """The position that is to be stored, if there is a new one."""
        self.closing = False
        """Whether nobody takes any more."""

    def put(self, entry: Entry, size: int) -> bool:
        """Add an entry of about `size` bytes; false while the buffer is full."""
        with self._lock:
            if self.closing:
                return True
            if len(self._entries) >= MAX_ENTRIES or self._bytes >= MAX_BYTES:
                if self.to_store is None:
                    self._changed.wait(_LOOK_AGAIN_S)
                return False
            # an idle token only moves the last one on
            if entry[0] is None and self._entries and self._entries[-1][0][0] is None:
                self._entries.pop()
            self._entries.append((entry, size))
            self._bytes += size
        return True

    def take(self, max_count: int, max_bytes: int) -> list[Entry]:
        """Entries in order, without waiting; at least one if there is any."""
        taken: list[Entry] = []
        size = 0
        with self._changed:
            while self._entries and len(taken) < max_count:
                entry, bytes_ = self._entries[0]
                if taken and size + bytes_ > max_bytes:
                    break
                self._entries.popleft()
                self._bytes -= bytes_
                size += bytes_
                taken.append(entry)
            if taken:
                self._changed.notify_all()
        return taken

    def store(self, position: Position) -> None:
        """Have a position stored soon."""
        with self._changed:
            self.to_store = position
            self._changed.notify_all()

    def stored(self, position: Position) -> None:
        """Forget a position that has been stored, unless a newer one waits by now."""
        with self._changed:
            if self.to_store is position:
                self.to_store = None

    def close(self) -> None:
        """Nobody takes any more: what is put from now on is forgotten."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
