"""Bodies that wait in a file, because a prefetch counts messages, not bytes."""

import tempfile


class Spool:
    """A file without a name, emptied whenever nothing in it waits any more."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its last reference)
        self._held = 0
        self._end = 0

    def put(self, body: bytes) -> int:
        """Write a body; its offset."""
        offset = self._end
        self._file.seek(offset)
        self._file.write(body)
        self._end += len(body)
        self._held += 1
        return offset

    def get(self, offset: int, size: int) -> bytes:
        """Read a body once."""
        self._file.seek(offset)
        body = self._file.read(size)
        self._held -= 1
        if not self._held:
            self.clear()
        return body

    def clear(self) -> None:
        """Forget all bodies."""
        self._held = self._end = 0
        self._file.truncate(0)
