"""The flows as the real commands, in processes that end with the program that started them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import Self

from ops.local_server import GUARD

ROOT: Final = Path(__file__).resolve().parent.parent
_DRAIN_S: Final = 60


class FlowEndedError(RuntimeError):
    """A flow is not running any more; the message holds the end of its log."""


@dataclass(slots=True)
class FlowProcesses:
    """`python -m bytewax.run flows.<name> -s 1` for each name, as a context manager.

    Each logs to `<name>.log` in `folder`. They drain at an orderly exit, and are killed at once by
    an exception, or when this program itself is killed.
    """

    names: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # Sessions of their own: Ctrl-C reaches this program only, which then ends them in order.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            for name in self.names:
                self._start(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self._end()

    def check(self) -> None:
        """Raise `FlowEndedError` unless all are alive."""
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise FlowEndedError(
                    f"flows.{name} ended with status {status}; {self.folder.name}/{name}.log: "
                    f"{' | '.join(self.log_lines(name)[-3:])}"
                )

    def stop(self) -> dict[str, int]:
        """Let all drain and return their exit statuses; no-op when they do not run."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        give_up_at = time.monotonic() + _DRAIN_S
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up_at - time.monotonic()))
        return self._end()

    def log_lines(self, name: str) -> list[str]:
        """What a flow has logged so far, without empty lines."""
        log = self._log(name)
        text = log.read_text(errors="replace") if log.exists() else ""
        return [line.strip() for line in text.splitlines() if line.strip()]

    def totals(self, name: str) -> dict[str, int]:
        """The `name=number` pairs of the last line that a flow logged with any; empty if none."""
        for line in reversed(self.log_lines(name)):
            if pairs := re.findall(r"\b([a-z_]+)=(\d+)\b", line):
                return {key: int(value) for key, value in pairs}
        return {}

    def _start(self, name: str) -> None:
        assert self._guard is not None
        assert self._guard.stdin is not None
        with self._log(name).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "bytewax.run", f"flows.{name}", "-s", "1"],
                cwd=ROOT,
                env={**os.environ, "RUST_BACKTRACE": "0", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        self._guard.stdin.write(f"{process.pid}\n".encode())
        self._guard.stdin.flush()

    def _end(self) -> dict[str, int]:
        """Kill what is left, the guard first: it must not act on process ids used anew."""
        for process in filter(None, [self._guard, *self._running.values()]):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        statuses = {name: process.returncode for name, process in self._running.items()}
        self._guard = None
        self._running = {}
        return statuses

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
