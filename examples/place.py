"""The folder of an example: wiped at its start, by one run at a time."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from connectors.qdrant.embedded import StoreFolder, stop


class ExampleError(RuntimeError):
    """The example cannot go on; the message is one line."""


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Wipe what an earlier run left, unless that run is still going.

    :raises ExampleError: it is, or the folder may be somebody else's
    """
    name = folder.name
    lock_file = folder.parent / f"{name}.lock"
    _check_ours(folder, lock_file, name)
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(lock_file.open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                stop(StoreFolder(folder / "qdrant"))  # an earlier run was killed a moment ago
                shutil.rmtree(folder)
            folder.mkdir()
        except BlockingIOError as error:
            raise ExampleError(
                f"another {name} is running in this folder; wait for its end"
            ) from error
        except OSError as error:
            raise ExampleError(f"{folder} cannot be made anew: {error}") from error
        yield


def _check_ours(folder: Path, lock_file: Path, name: str) -> None:
    """A folder that is wiped is one that an example has made, which leaves its lock beside it."""
    for path in (folder, lock_file):
        if path.is_symlink():
            raise ExampleError(
                f"{path} is a symbolic link, which the {name} does not follow: remove it"
            )
    if folder.exists() and not lock_file.exists():
        raise ExampleError(
            f"{folder} was not made by the {name}, which would wipe it: move it away"
        )
