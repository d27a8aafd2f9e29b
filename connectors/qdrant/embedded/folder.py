"""The folder of an embedded store: who serves it and where, and who uses it.

    server.json    where the server is: url, grpc_port, api_key, pid; for its owner's eyes only
    server.lock    held by the server
    users.lock     held, shared, by everybody who wants the server to stay
    server.log     what the server says
    format.json    which version has written the folder
    collections/   the data

Locks are the kernel's and end with the process that holds them, whatever ends it. So a server.json
without a lock is what a killed server left, and nobody's life is guessed from a process id.
"""

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from models.errors import ConfigurationError, StoreUnavailableError

FORMAT: Final = {"store": "twinstream embedded", "format": 1}
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    url: str
    grpc_port: int
    api_key: str = field(repr=False)
    pid: int


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """The files of one embedded store."""

    path: Path

    @property
    def collections(self) -> Path:
        """Where the collections are."""
        return self.path / "collections"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.path / "server.log"

    def prepare(self) -> None:
        """Create the folder, or check that this version can read it.

        :raises ConfigurationError: it cannot
        :raises StoreUnavailableError: the disk is full or sick
        """
        marker = self.path / "format.json"
        try:
            self.path.mkdir(0o700, parents=True, exist_ok=True)
            if (self.path / "meta.json").exists():
                raise ConfigurationError(
                    f"QDRANT_PATH {self.path} holds the store of an earlier version: delete the "
                    "folder or name another one, then fill the new store with make reconcile"
                )
            if not marker.exists():
                if self.collections.exists():
                    raise self._foreign("no format.json")
                _write(marker, json.dumps(FORMAT))
            elif (found := json.loads(marker.read_text())) != FORMAT:
                raise self._foreign(f"the format {found}")
        except ValueError as error:
            raise self._foreign("an unreadable format.json") from error
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"QDRANT_PATH {self.path} cannot be used: {error}: set another folder"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"the embedded store at {self.path} does not start: {error}"
            ) from error

    def take(self, patience: float) -> IO[str] | None:
        """The lock of the server, to be held by it until it ends; None if another one has it.

        :param patience: seconds for those who hold it only to look
        """
        lock = self._opened("server.lock")
        deadline = time.monotonic() + patience
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            if time.monotonic() > deadline:
                lock.close()
                return None
            time.sleep(_POLL_S)

    def is_served(self) -> bool:
        """Whether a server has this folder, though it may still be starting."""
        if not self.path.is_dir():
            return False
        with self._opened("server.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def use(self) -> IO[str]:
        """A lock that keeps the server from ending until it is closed.

        It waits for a server that is about to end, as it did not know of this user.

        :raises ConfigurationError: the folder is somebody else's
        """
        lock = self._opened("users.lock")
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def is_still(self, lock: IO[str]) -> bool:
        """Whether a lock that was taken is still that of the folder, which may have been deleted,
        and made anew.
        """
        try:
            return os.path.samestat(os.fstat(lock.fileno()), (self.path / "server.lock").stat())
        except FileNotFoundError:
            return False

    @contextmanager
    def without_users(self) -> Iterator[bool]:
        """Whether nobody uses the store; as long as this lasts, nobody begins to, then."""
        with self._opened("users.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def address(self) -> Address | None:
        """Where the last server was, if it has not ended in good order."""
        try:
            return Address(**json.loads((self.path / "server.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def announce(self, address: Address) -> None:
        """Say where the server is."""
        _write(self.path / "server.json", json.dumps(asdict(address)))

    def withdraw(self) -> None:
        """The server is about to end."""
        (self.path / "server.json").unlink(missing_ok=True)

    def _opened(self, name: str) -> IO[str]:
        """A lock file, which nobody else can open, and so block."""
        try:
            return os.fdopen(os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise ConfigurationError(
                f"QDRANT_PATH {self.path} cannot be used: {error}: set another folder"
            ) from error

    def _foreign(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"QDRANT_PATH {self.path} holds something else than a store of this version ({why}): "
            "name another folder, or delete this one and run make reconcile"
        )


def _write(file: Path, text: str) -> None:
    """In one step, and for its owner's eyes only; several processes may do it at once."""
    handle, begun = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with os.fdopen(handle, "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        Path(begun).replace(file)
    except BaseException:
        Path(begun).unlink(missing_ok=True)
        raise
