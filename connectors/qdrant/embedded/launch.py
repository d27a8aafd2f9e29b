"""Finding the server of an embedded store, and starting it where there is none."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from connectors.qdrant.embedded.folder import Address, StoreFolder
from connectors.qdrant.embedded.server import HOST, TAKEN, UNUSABLE
from models.errors import ConfigurationError, StoreUnavailableError

IDLE_S: Final = 30.0
"""Seconds without a user after which a server ends."""

_PATIENCE_S: Final = 120.0
_STOP_S: Final = 30.0
_POLL_S: Final = 0.02
_LARGEST_LOG_BYTES: Final = 2**20
_ROOT: Final = Path(__file__).resolve().parents[3]


def ensure(folder: StoreFolder) -> Address:
    """Where the server of a folder is, after starting it if there was none.

    The server has a session of its own: it goes on for others when its starter is killed.

    :raises ConfigurationError: the folder cannot be used
    :raises StoreUnavailableError: no server came up within two minutes
    """
    try:
        return _ensure(folder)
    except OSError as error:  # a disk that is full or sick
        raise StoreUnavailableError(
            f"the embedded store at {folder.path} does not start: {error}"
        ) from error


def _ensure(folder: StoreFolder) -> Address:
    folder.prepare()
    deadline = time.monotonic() + _PATIENCE_S
    process: subprocess.Popen[bytes] | None = None
    while True:
        if folder.is_served():
            if (address := folder.address()) is not None:
                return address
        elif process is None:
            process = _start(folder)
        if process is not None and (code := process.poll()) is not None:
            if code == UNUSABLE:
                raise ConfigurationError(_last_line(folder))
            if code not in (0, TAKEN):
                raise StoreUnavailableError(
                    f"the embedded store at {folder.path} does not start: {_last_line(folder)}"
                )
            process = None
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"the embedded store at {folder.path} was not up after {_PATIENCE_S:.0f} s: see "
                f"{folder.log}"
            )
        time.sleep(_POLL_S)


def stop(folder: StoreFolder) -> None:
    """End the server of a folder in good order, if it has one, and wait until it is gone.

    One that hangs is killed after half a minute. Clients that are still open start another one.
    """
    if not folder.path.is_dir():
        return
    deadline = time.monotonic() + _STOP_S
    told: Address | None = None
    while folder.is_served():
        address = folder.address()
        if address is not None and _listens(address.grpc_port):  # else a stale address
            told = address
        if told is not None:
            hangs = time.monotonic() > deadline
            with suppress(ProcessLookupError):
                os.kill(told.pid, signal.SIGKILL if hangs else signal.SIGTERM)
        time.sleep(_POLL_S)


def stop_unless_used(folder: StoreFolder) -> None:
    """The same, if nobody uses the store, or ceases to within two seconds."""
    deadline = time.monotonic() + 2  # the helpers of a process that was killed outlive it a little
    while folder.path.is_dir():
        with folder.without_users() as unused:
            if unused:
                stop(folder)
                return
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)


def _start(folder: StoreFolder) -> "subprocess.Popen[bytes]":
    with suppress(FileNotFoundError):  # there is none yet, or another starter was faster
        if folder.log.stat().st_size > _LARGEST_LOG_BYTES:
            folder.log.unlink()
    module = "connectors.qdrant.embedded"
    with folder.log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--data", folder.path.absolute(), "--idle", str(IDLE_S)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _last_line(folder: StoreFolder) -> str:
    lines = folder.log.read_text(errors="replace").strip().splitlines()
    return lines[-1].rpartition(" | ")[2] if lines else f"see {folder.log}"
