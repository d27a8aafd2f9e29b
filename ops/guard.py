"""Processes that end with the program that started them, even after its kill -9."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Reads process group ids until the pipe closes, which happens when the program that holds its other
# end is gone, even after kill -9; then ends those groups. PR_SET_PDEATHSIG would not do: it fires
# when the *thread* that started the process ends, and a test may restart a server from a thread.
_WATCH: Final = 'while read -r id; do groups="$groups -$id"; done; kill -s KILL -- $groups'

# A process names itself to its guard, by the pipe that it is given as standard input, before it
# becomes the program: at no moment does it run unknown to the guard.
_ANNOUNCED: Final = 'echo $$ >&0; exec "$@" </dev/null'


class Guard:
    """A watcher beside this program, which kills what it was given when this program is gone.

    In sessions of their own, neither watcher nor processes hear of Ctrl-C or of a terminal that is
    closed: this program does, and ends them in order.
    """

    def __init__(self) -> None:
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a process that is killed when this program is gone.

        :param folder: where it works
        :param log: takes what it prints; several processes append
        """
        with log.open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", _ANNOUNCED, "sh", *command],
                cwd=folder,
                env=environment,
                stdin=self._watcher.stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def release(self) -> None:
        """End the watcher, once what it was given has ended; no-op when it has ended already."""
        if self._watcher.poll() is None:
            end(self._watcher)
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what is left of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a log, on one line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])
