"""The real `git`, for repositories of strangers: bounded, without a working tree, without a past.

Whatever a repository holds, nothing of it becomes a file, a command or a setting here: the clone
has objects only, git reads no configuration but ours, and each of its processes dies when its time
is over, when its folder has grown too large, or when this program is gone.
"""

import contextlib
import fcntl
import io
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, TypeAlias

from typing_extensions import Buffer, override

from models.errors import SourceError
from models.shown import shown

_PREFIX: Final = "twinstream-git-"
_LOCK: Final = ".lock"
_LOOK_EVERY_S: Final = 0.2
_MEMORY_KIB: Final = 1_048_576
"""Address space of a git process: an object that unpacks to gigabytes ends git, not the machine."""
_ANSWER: Final = 64 * 1024
"""Bytes of a short answer, or of one path."""

_NOT_FOUND: Final = 127
"""Exit code of a shell that finds no such program."""

# The process group dies with the pipe on its standard input, whose other end this program holds:
# after kill -9, too. A watcher waits for that, since git itself does not read its input.
_BOUNDED: Final = """
exec 3<&0 <"$1"; ulimit -v "$2" 2>/dev/null; shift 2
{ read -r _; kill -s KILL 0; } <&3 >/dev/null 2>&1 &
exec "$@" 3<&-
"""

_SETTINGS: Final = {
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.fsmonitor": "false",
    "core.protectNTFS": "false",  # paths are labels here: a backslash in one is no danger
    "core.protectHFS": "false",
    "core.bigFileThreshold": "512k",
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "64m",
    "core.deltaBaseCacheLimit": "16m",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "500",
    "http.lowSpeedTime": "30",
    "http.userAgent": "git/2 (twinstream; collects what its author publishes)",
    "pack.threads": "1",
    "protocol.version": "2",
    "transfer.unpackLimit": "1",
}


class Git:
    """Git processes that work in one temporary folder.

    :param folder: where they work, and what must not grow
    :param protocol: the only one by which they may fetch
    :param settings: of git, on top of ours; a secret belongs here, since git gets them in its
        environment and not on its command line
    :param until: by the monotonic clock, when time is over
    :param largest: bytes that the folder may hold
    """

    def __init__(
        self,
        folder: Path,
        protocol: str,
        settings: Mapping[str, str],
        until: float,
        largest: int,
    ) -> None:
        self.folder = folder
        self._environment = _environment(folder, protocol, {**_SETTINGS, **settings})
        self._until = until
        self._largest = largest

    def run(self, *arguments: str, given: Path | None = None) -> bytes:
        """The short answer of a command.

        :raises SourceError: it failed, took too long, wrote too much, or says too much
        """
        with self.output(*arguments, given=given) as output:
            answer = output.read(_ANSWER + 1)
            if len(answer) > _ANSWER:
                raise SourceError(f"git {arguments[0]} says more than {_ANSWER} bytes")
        return answer

    def records(self, *arguments: str, given: Path | None = None) -> Iterator[bytes]:
        """What a command prints, cut at each NUL.

        :raises SourceError: as `run`
        """
        with self.output(*arguments, given=given) as output:
            rest = b""
            while block := output.read(_ANSWER):
                *whole, rest = (rest + block).split(b"\0")
                yield from whole
                if len(rest) > _ANSWER:
                    raise SourceError(f"a path is longer than {_ANSWER} bytes")
            if rest:
                raise SourceError(f"git {arguments[0]} ended in the middle of a path")

    @contextlib.contextmanager
    def output(self, *arguments: str, given: Path | None = None) -> Iterator["Output"]:
        """What a command prints, while it runs; leaving early ends it.

        :param given: a file that it reads as its standard input
        :raises SourceError: as `run`, at the end of what it prints
        """
        with tempfile.NamedTemporaryFile(dir=self.folder) as said:  # counts as a part of the folder
            process, lifeline = self._start(arguments, given or Path(os.devnull), said)
            assert process.stdout is not None
            try:
                raw = _Watched(process.stdout.fileno(), self._check)
                with io.BufferedReader(raw, _ANSWER) as output:
                    yield output
                    if not raw.ended:
                        return
                code = self._wait(process)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the watcher at least is left of it
                os.close(lifeline)
                process.wait()
                process.stdout.close()
            if code == _NOT_FOUND:
                raise SourceError("the program git is not installed here")
            if code:
                raise SourceError(f"git {arguments[0]}: {_last_words(said) or f'exit code {code}'}")
            self._check()  # what it wrote since the last look

    def _start(
        self, arguments: Sequence[str], given: Path, said: IO[bytes]
    ) -> tuple["subprocess.Popen[bytes]", int]:
        read, lifeline = os.pipe()
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _BOUNDED, "sh", given, str(_MEMORY_KIB), "git", *arguments],
                cwd=self.folder,
                env=self._environment,
                stdin=read,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(read)
        return process, lifeline

    def _wait(self, process: "subprocess.Popen[bytes]") -> int:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_EVERY_S)
            self._check()

    def _check(self) -> None:
        if time.monotonic() > self._until:
            raise SourceError("reading it took too long: raise timeout, or leave it out")
        if _size(self.folder) > self._largest:
            raise SourceError(f"it is larger than max_mb = {self._largest // 1_000_000}")


class _Watched(io.RawIOBase):
    """A pipe that is read in turns with a look at the limits."""

    def __init__(self, pipe: int, check: Callable[[], None]) -> None:
        self._pipe = pipe
        self._check = check
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        self.ended = False

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        while True:
            ready = self._poll.poll(_LOOK_EVERY_S * 1000)
            if not ready or time.monotonic() > self._look_at:
                self._check()
                self._look_at = time.monotonic() + _LOOK_EVERY_S
            if ready:
                count = os.readv(self._pipe, [buffer])
                self.ended = not count
                return count


Output: TypeAlias = "io.BufferedReader[_Watched]"
"""What a command prints."""


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of ours that is gone afterwards; what killed programs have left goes first.

    A lock beside each tells whether its program lives. It is taken before the folder is made and
    removed after the folder, so nothing is left that the next start does not find.

    :raises SourceError: there is no room, or no right, to make one
    """
    place = Path(tempfile.gettempdir())
    with contextlib.ExitStack() as stack:
        try:
            _sweep(place)
            folder = stack.enter_context(_locked(place))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        except OSError as error:
            reason = f"no temporary folder in {place}: {error.strerror or error}"
            raise SourceError(reason) from error
        yield folder


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[Path]:
    """A new name whose lock is held."""
    while True:
        handle, lock_file = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=place)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another program took it for one that is left
                yield Path(lock_file.removesuffix(_LOCK))
                return
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(lock_file).unlink()
            os.close(handle)


def _sweep(place: Path) -> None:
    """Remove the folders of programs that are gone."""
    for lock_file in place.glob(f"{_PREFIX}*{_LOCK}"):
        with contextlib.suppress(OSError):  # somebody else's, or just gone
            handle = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(handle).st_uid != os.getuid():
                    continue
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(str(lock_file).removesuffix(_LOCK), ignore_errors=True)
                lock_file.unlink()
            finally:
                os.close(handle)


def _environment(folder: Path, protocol: str, settings: Mapping[str, str]) -> dict[str, str]:
    """All that git gets to know: nothing of this program's own environment."""
    numbered = enumerate(settings.items())
    return {
        "PATH": os.pathsep.join(
            [str(Path(shutil.which("git") or "/usr/bin/git").parent), os.defpath]
        ),
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_CONFIG_COUNT": str(len(settings)),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{
            name: value
            for number, pair in numbered
            for name, value in zip(
                (f"GIT_CONFIG_KEY_{number}", f"GIT_CONFIG_VALUE_{number}"), pair, strict=True
            )
        },
    }


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; one that vanishes meanwhile has none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{parent}/{name}").st_size
    return total


def _last_words(said: IO[bytes]) -> str:
    """The last line of an error message of git, without the remark that often follows it."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - _ANSWER))
    lines = said.read().decode("utf-8", "replace").splitlines()
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    return shown(fatal[-1], 300) if fatal else ""
