"""Flows as the real commands: what the demo, `make dev`, tests and benchmarks start them with."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from typing_extensions import Self

from ops.guard import Guard, end, last_lines

ROOT: Final = Path(__file__).resolve().parent.parent
DRAIN_S: Final = 60.0
"""How long a flow is waited for that was told to end; by itself it takes `GRACE_S` at most."""
_FLOW: Final = {"RUST_BACKTRACE": "0", "PYTHONIOENCODING": "utf-8"}
"""Its log is read as UTF-8, whatever the terminal is."""


class FlowEndedError(RuntimeError):
    """A flow is not running any more, or never came up; the message holds the end of its log."""


class FlowProcess:
    """A `python -m bytewax.run` process, which ends with the program that started it.

    :param module: the flow
    :param environment: on top of that of this program
    :param log: takes what it prints; several runs append
    :param arguments: of `bytewax.run`
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
        self._guard = Guard()
        try:
            self.process = self._guard.start(
                [sys.executable, "-m", "bytewax.run", module, *arguments],
                folder=ROOT,
                environment={**os.environ, **_FLOW, **environment},
                log=log,
            )
        except BaseException:
            self._guard.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process.poll() is None

    def check(self) -> None:
        """Do nothing while it runs.

        :raises FlowEndedError: it has ended
        """
        if not self.running:
            raise FlowEndedError(
                f"{self.module} ended with status {self.process.returncode}; "
                f"{self.log.parent.name}/{self.log.name}: {last_lines(self.log)}"
            )

    def wait_ready(self, timeout: float = 30) -> None:
        """Wait until the flow has been built: before that, a signal finds plain Python.

        :raises FlowEndedError: it has ended, or was not built in time
        """
        deadline = time.monotonic() + timeout
        while b"ready: SIGTERM" not in self.log.read_bytes()[self._began :]:
            self.check()
            if time.monotonic() > deadline:
                raise FlowEndedError(
                    f"{self.module} was not built after {timeout:.0f} s: {last_lines(self.log)}"
                )
            time.sleep(0.05)

    def terminate(self, timeout: float = 12) -> int:
        """Let a flow that is built drain; the exit code.

        :raises subprocess.TimeoutExpired: it goes on
        """
        self.wait_ready()
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """Wait until it has ended by itself; the exit code.

        :raises subprocess.TimeoutExpired: it goes on
        """
        code = self.process.wait(timeout)
        self._guard.release()
        return code

    def stop(self, timeout: float = DRAIN_S) -> int:
        """Let it drain, after the timeout by force; the exit code. No-op when it has ended."""
        if self.running:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        return self.end()

    def kill(self) -> None:
        """SIGKILL, and the proof that it is what ended the process.

        :raises FlowEndedError: something else did
        """
        self.process.send_signal(signal.SIGKILL)
        if self.wait(10) != -signal.SIGKILL:
            self.check()

    def end(self) -> int:
        """End it by force, if it still runs; the exit code."""
        if self.running:
            end(self.process)
        self._guard.release()
        return self.process.returncode

    def output(self) -> str:
        """All that was logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class FlowProcesses:
    """Several flows that live and end together, as a context manager.

    Each logs to `<name>.log` in `folder`. They drain at an orderly exit, and are killed at once by
    an exception, or when this program itself is killed.

    :param modules: the flows by name
    :param environment: on top of that of this program
    """

    def __init__(
        self, modules: Mapping[str, str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self._modules = modules
        self._environment = environment
        self._folder = folder
        self._running: dict[str, FlowProcess] = {}

    def __enter__(self) -> Self:
        try:
            for name, module in self._modules.items():
                self._running[name] = FlowProcess(module, self._environment, self.log(name))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.stop()
        else:
            self._end()

    def check(self) -> None:
        """Do nothing while all run.

        :raises FlowEndedError: one has ended
        """
        for flow in self._running.values():
            flow.check()

    def stop(self) -> dict[str, int]:
        """Let all drain at once and return their exit codes; no-op when they do not run."""
        for flow in self._running.values():
            if flow.running:
                flow.process.terminate()
        give_up_at = time.monotonic() + DRAIN_S
        for flow in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                flow.wait(max(0.0, give_up_at - time.monotonic()))
        return self._end()

    def log(self, name: str) -> Path:
        """Where a flow logs to."""
        return self._folder / f"{name}.log"

    def totals(self, name: str) -> dict[str, int]:
        """The `name=number` pairs of the last line that a flow logged with any; empty if none."""
        log = self.log(name)
        text = log.read_text(errors="replace") if log.exists() else ""
        for line in reversed(text.splitlines()):
            if pairs := re.findall(r"\b([a-z_]+)=(\d+)\b", line):
                return {key: int(value) for key, value in pairs}
        return {}

    def _end(self) -> dict[str, int]:
        codes = {name: flow.end() for name, flow in self._running.items()}
        self._running = {}
        return codes
