"""Flows as real processes, for tests that kill them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

ROOT = Path(__file__).resolve().parent.parent


class FlowProcess:
    """A `python -m bytewax.run` process, ended by its id when the block is left.

    :param module: flow to run
    :param environment: on top of that of the tests
    :param log: file that takes its output; several runs append
    """

    def __init__(
        self,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        arguments: Sequence[str] = ("-s", "1"),
    ) -> None:
        self.module = module
        self.log = log
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bytewax.run", module, *arguments],
                cwd=ROOT,
                env={**os.environ, "RUST_BACKTRACE": "0", **environment},
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """SIGKILL, and the proof that it is what ended the process."""
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(10) == -signal.SIGKILL

    def wait_ready(self, timeout: float = 30) -> None:
        """Wait until the flow has been built: before that, a signal finds plain Python."""
        deadline = time.monotonic() + timeout
        while b"ready: SIGTERM" not in self.log.read_bytes()[self._began :]:
            self.check()
            assert time.monotonic() < deadline, self.output()[-3000:]
            time.sleep(0.05)

    def terminate(self, timeout: float = 12) -> int:
        """SIGTERM; the exit code."""
        self.wait_ready()
        self.process.terminate()
        return self.process.wait(timeout)

    def check(self) -> None:
        """Fails when the process has ended."""
        if self.process.poll() is not None:
            raise AssertionError(
                f"{self.module} ended with {self.process.returncode}:\n{self.output()[-3000:]}"
            )

    def output(self) -> str:
        """All that was logged."""
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
