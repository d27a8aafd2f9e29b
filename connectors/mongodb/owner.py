"""Which process this is, told so that another one can see that it is gone."""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Owner(NamedTuple):
    """A process that owns a pipeline, or wants to."""

    id: str
    """Random: two captures in one process are two owners."""
    host: str
    boot: str
    """Of the running kernel; empty where it does not say."""
    namespace: str
    """Of process ids: a container counts its own."""
    pid: int
    started: str
    """Clock ticks from the boot to the start: process ids are used again."""

    @classmethod
    def here(cls) -> "Owner":
        """The process that asks, under a new id."""
        pid = os.getpid()
        return cls(
            secrets.token_hex(8), socket.gethostname(), _boot(), _namespace(), pid, _started(pid)
        )

    @classmethod
    def read(cls, document: Mapping[str, Any] | None) -> "Owner | None":
        """The owner that a lease names, if any."""
        if document is None:
            return None
        return cls(**{field: document[field] for field in cls._fields})

    def is_gone(self) -> bool:
        """Whether it can be proven that this process is over, from the same kernel and the same
        namespace of process ids; false where nothing is known.
        """
        here = (socket.gethostname(), _boot(), _namespace())
        if not all(here) or (self.host, self.boot, self.namespace) != here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return _started(self.pid) not in ("", self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    return _line(Path("/proc/sys/kernel/random/boot_id"))


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began; `over` for one that has ended and only waits to be collected; empty
    where that is not shown.
    """
    # the name of the program comes second, in brackets, and may hold brackets and blanks itself
    fields = _line(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if not fields:
        return ""
    return "over" if fields[0] in "ZX" else fields[19]


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
