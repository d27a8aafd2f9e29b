"""Programs of the product, forked from one process that has imported everything.

An interpreter that starts and imports needs more time than the whole scenario. What is forked ends
by itself: its exceptions, exit functions and exit code are those of a process of its own.

`python -m tests.faults.programs FD` waits for requests over the socket that it inherits as FD.
"""

import faulthandler
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FLOW = "flows.pipeline"
COMMANDS = ("flows.replay", "flows.reconcile")
PRUNE_S = "TWINSTREAM_TEST_PRUNE_S"
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}


class Request(NamedTuple):
    """A program to start."""

    number: int
    module: str
    environment: Mapping[str, str]
    log: Path


class Program:
    """A running program, or one that has ended."""

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None
        """Its exit code, negative for a signal; None while it runs."""
        self.began, self.ended = threading.Event(), threading.Event()

    def wait(self, timeout: float) -> int | None:
        """Its exit code; None if it still runs after the timeout."""
        self.ended.wait(timeout)
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Programs:
    """Starts programs of the product; thread-safe. They end with it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.programs", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ENVIRONMENT},
            )
        self._lock = threading.Lock()
        self._programs: list[Program] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, module: str, environment: Mapping[str, str], log: Path) -> Program:
        """Start a program of the product; it has a process id when this returns."""
        program = Program()
        with self._lock:
            self._programs.append(program)
            self._connection.send(Request(len(self._programs) - 1, module, environment, log))
        if not program.began.wait(60):
            raise RuntimeError("the process that starts programs does not answer")
        return program

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, suppress(OSError):
            self._connection.send(None)
        self._process.wait(30)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, began, value = self._connection.recv()
                program = self._programs[number]
                if began:
                    program.pid = value
                    program.began.set()
                else:
                    program.code = value
                    program.ended.set()


def serve(connection: "Connection[Any, Any]") -> Request | None:
    """Fork for each request; returns it in the child, and None when nobody asks any more."""
    woken, wakeup = os.pipe()
    for end in (woken, wakeup):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([connection, woken], [], [])
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        request: Request | None = None
        with suppress(EOFError, OSError):  # who asks may be gone
            _collect(children, connection)
            if connection not in ready:
                continue
            request = connection.recv()
        if request is None:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            return None
        child = os.fork()
        if not child:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (woken, wakeup):
                os.close(end)
            connection.close()
            return request
        children[child] = request.number
        with suppress(OSError):
            connection.send((request.number, True, child))


def _collect(children: dict[int, int], connection: "Connection[Any, Any]") -> None:
    """Tell of the programs that have ended.

    :raises OSError: there is nobody to tell
    """
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            number = children.pop(pid)
            connection.send((number, False, os.waitstatus_to_exitcode(status)))


def _prepare() -> None:
    """Import what programs need, with the hashing embedder in the place of the model, and the work
    on texts, which calls no driver, in the same process.
    """
    from flows.embedding import embedder
    from flows.text import bounded
    from tests.faults.texts import Hashing, InProcess

    embedder.Embedder = Hashing  # type: ignore[misc,assignment]
    bounded.BoundedText = InProcess  # type: ignore[misc,assignment]

    for module in ("bytewax.run", FLOW, *COMMANDS, "tests.faults.answers"):
        importlib.import_module(module)
    from connectors.rabbitmq import link

    link._UNANSWERED_S = 2.0
    link._BEAT_S = 0.5


def _become(request: Request) -> None:
    """Put this process into the place of one that was started for a request."""
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((null, 0), (log, 1), (log, 2)):
        os.dup2(here, there)
    os.environ.update(request.environment)
    sys.argv[:] = [request.module]
    faulthandler.register(signal.SIGUSR1)


def _run(module: str) -> None:
    from tests.faults.answers import ANSWERS
    from tests.faults.calls import install

    install(ANSWERS)
    if module == FLOW:
        from bytewax.run import cli_main

        from flows import model_and_store, pipeline

        every = os.environ.get(PRUNE_S, model_and_store.PRUNE_EVERY_S)
        model_and_store.PRUNE_EVERY_S = float(every)
        cli_main(pipeline.flow(), epoch_interval=timedelta(milliseconds=100))
        return
    from flows.command import run_command

    name = module.rpartition(".")[2]
    sys.exit(run_command(name, sys.modules[module].main))


def main() -> None:
    """Serve; in a child, be the program that was asked for."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    _prepare()
    gc.collect()
    gc.freeze()
    request = serve(connection)
    if request is not None:
        _become(request)
        _run(request.module)


if __name__ == "__main__":
    main()
