"""Work on the texts of a document within a bound on its time, whatever the texts are.

A text that a regular expression or a tokenizer takes hours for holds Python's lock for hours: no
thread of the same process can stop it, send a heartbeat or answer a signal meanwhile. So the work
is done by another process, which the kernel ends when the time is used up. The document is then
refused, and its neighbours go on with a new process.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from flows.text.chunk import Span
from models.errors import ConfigurationError, ContentRefusedError

SECONDS = 10.0
"""Processor time for the texts of one document, to clean or to cut them, ..."""

SECONDS_PER_MILLION = 5.0
"""... and for each million characters of them: ten times as much as ordinary text takes."""

STALLED_S = 600.0
"""Time by the clock after which a process that has not answered is replaced."""

TRIES = 3
"""How many processes may die over a document before it counts as the reason."""

_ROOT = Path(__file__).resolve().parents[2]
_CHILD = "flows.text.child"
_DOING = {"clean": "cleaning", "split": "cutting"}

log = logging.getLogger("flows")


class BoundedText:
    """Cleans and cuts texts as `clean_texts` and `Chunker.split_all` do.

    Thread-safe. Has as many processes as threads have asked at the same time. They end with this
    process, even after kill -9: at once, or when the time of the document in hand is used up.

    :param model: gives the tokenizer of the embedding model, and `max_tokens` of a `Chunker`
    :param seconds: processor time for each document
    :param child: module to run in the other process
    """

    def __init__(
        self,
        model: Callable[[], tuple[Tokenizer, int]],
        seconds: float = SECONDS,
        child: str = _CHILD,
    ) -> None:
        self._model = model
        self._seconds = seconds
        self._module = child
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def load(self) -> None:
        """Start the first process, unless there is one.

        :raises ConfigurationError: it does not start
        """
        with self._lock:
            if self._idle:
                return
        try:
            self._give_back(self._child())
        except OSError as error:
            raise ConfigurationError(
                f"the process that works on texts does not start ({error}): are the limits on "
                "processes and memory too low?"
            ) from error

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Clean the prose of one document; see `clean_text`.

        :raises ContentRefusedError: it takes too long, or ends its process each time
        """
        return list(self._ask("clean", texts, sum(map(len, texts)))) if texts else []

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """Cut the texts of one document; see `Chunker.split_all`.

        :raises ContentRefusedError: it takes too long, or ends its process each time
        """
        return list(self._ask("split", texts, sum(len(text) for text, _ in texts))) if texts else []

    def close(self) -> None:
        """End the processes; the next call starts a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()

    def _ask(self, task: str, texts: Sequence[Any], characters: int) -> Any:
        seconds = self._seconds + SECONDS_PER_MILLION * characters / 1e6
        code = 0
        for _ in range(TRIES):
            child = self._take()
            try:
                problem, result = child.ask((task, texts, seconds))
            except OSError:
                code = child.end()
                if code == -signal.SIGPROF:
                    raise ContentRefusedError(
                        f"{_DOING[task]} its texts takes over {seconds:.3g} s of processor time"
                    ) from None
                log.warning("the process that works on texts ended with status %d", code)
                continue
            self._give_back(child)
            if problem:
                raise ContentRefusedError(problem)
            return result
        raise ContentRefusedError(
            f"{_DOING[task]} its texts has ended the process that does it {TRIES} times, with "
            f"status {code}"
        )

    def _take(self) -> "_Child":
        """An idle process, or a new one. Waits where the machine has no room for one: that is no
        fault of the document in hand.
        """
        wait = 0.1
        while True:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
            try:
                return self._child()
            except OSError as error:
                log.warning("the process that works on texts does not start, waiting: %s", error)
                time.sleep(wait)
                wait = min(wait * 2, 30.0)

    def _child(self) -> "_Child":
        tokenizer, max_tokens = self._model()
        return _Child(self._module, tokenizer.to_str(), max_tokens)

    def _give_back(self, child: "_Child") -> None:
        with self._lock:
            self._idle.append(child)


class _Child:
    """A process that answers one request after the other; OSError when it is gone."""

    def __init__(self, module: str, tokenizer: str, max_tokens: int) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the flow, which drains
            )
        try:
            self.ask((tokenizer, max_tokens))
        except BaseException:
            self.end()
            raise

    def ask(self, request: object) -> Any:
        try:
            self._connection.send(request)
            if not self._connection.poll(STALLED_S):
                raise TimeoutError(f"no answer within {STALLED_S:.0f} s")
            return self._connection.recv()
        except EOFError as error:
            raise BrokenPipeError("it ended") from error

    def end(self) -> int:
        """Its exit status; it is killed if it still runs."""
        self._connection.close()
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
