"""A server of our own: a process and its data directory, gone with the program that started it."""

from __future__ import annotations

import contextlib
import fcntl
import random
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from ops.guard import Guard, end, last_lines

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
STOP_TIMEOUT = 30.0
POLL_INTERVAL = 0.05


class StackError(RuntimeError):
    """A local server cannot be started; the message is one line and says what to do."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    # Not bind(0): that returns an ephemeral port, and while a killed server is down, a client that
    # tries to reconnect can be given this very port as its own source port: it then talks to
    # itself, and the server cannot bind its port any more. Ephemeral ports are 32768 and above.
    for _ in range(1000):
        port = random.randint(15_000, 32_000)
        if _is_free(port):
            return port
    raise StackError("no free TCP port between 15000 and 32000 on 127.0.0.1; stop some servers")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class LocalServer:
    """One server process and its data directory; start, stop, kill and restart it at will.

    Input is the data directory (created when missing, kept when stopped) and a port; without one
    it is the port that this directory used last, else a free one. `start` and `restart` raise
    `StackError` when the server is not installed, its directory or port is in use, or it does not
    come up in time. Not thread-safe.
    """

    name: ClassVar[str]

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = port or self._last_port() or free_port()
        self.log = self.data_dir / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._companions: list[subprocess.Popen[bytes]] = []
        self._guard: Guard | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def start(self, timeout: float = 90) -> None:
        """Start the server and return once a client is served; no-op when it already runs."""
        if self.running:
            return
        self._forget()
        deadline = time.monotonic() + timeout
        try:
            self._take_directory()
            if not _is_free(self.port):
                raise StackError(
                    f"port {self.port} is in use: end what listens there, "
                    f"or choose another one for {self.name}"
                )
            (self.data_dir / "port").write_text(str(self.port))
            self._guard = Guard()
            self.process = self._launch()
            self._await_ready(deadline, timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in order (SIGTERM), after 30 seconds by force; no-op when it is down."""
        if self.process is not None and self.running:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT)
        self._forget()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; its data stays for the next `start`."""
        self._forget()

    def restart(self, timeout: float = 90) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        self.stop()
        self.start(timeout)

    def _launch(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _serves(self) -> bool:
        raise NotImplementedError

    def _spawn(
        self, command: Sequence[str | Path], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        assert self._guard is not None
        assert self._lock is not None
        return self._guard.start(
            command,
            folder=self.data_dir,
            environment=environment,
            log=self.log,
            # The server holds the lock too: the directory is taken while either lives.
            pass_fds=[self._lock.fileno()],
        )

    def _await_ready(self, deadline: float, timeout: float) -> None:
        while not (accepts(self.port) and self._serves()):
            if not self.running:
                raise StackError(f"{self.name} ended while starting; {self.last_words()}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} was not up after {timeout:.0f} s; {self.last_words()}"
                )
            time.sleep(POLL_INTERVAL)

    def _forget(self) -> None:
        """End whatever still runs by force, and release the directory."""
        for process in [self.process, *self._companions]:
            if process is not None:
                end(process)
        if self._guard is not None:
            self._guard.release()
        if self._lock is not None:
            self._lock.close()
        self.process = self._guard = self._lock = None
        self._companions = []

    def _take_directory(self) -> None:
        self._lock = (self.data_dir / "lock").open("w")
        # A server whose program was killed a moment ago may need that moment to go.
        for _ in range(40):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(POLL_INTERVAL)
        raise StackError(
            f"{self.data_dir} is in use by another {self.name}: "
            "stop that, or choose another directory"
        )

    def _last_port(self) -> int | None:
        try:
            return int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return None

    def last_words(self) -> str:
        """Where its log is, and the last three lines of it."""
        return f"see {self.log}: {last_lines(self.log)}"
