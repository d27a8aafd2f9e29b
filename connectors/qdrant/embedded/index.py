"""Indexing the vectors of a shard, in a process of its own: the engine holds Python's lock
meanwhile, for minutes if there are a million points.

python -m connectors.qdrant.embedded.index FOLDER
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from connectors.qdrant.embedded.engine import EngineError, Shard

_ROOT: Final = Path(__file__).resolve().parents[3]
_NICER: Final = 10
"""Searches and writes go first."""


def index_apart(folder: Path) -> None:
    """Index the vectors of the shard in a folder that nobody has open.

    The process ends with this one, even after a kill -9.

    :raises EngineError: it could not be done; the shard has all its points, or cannot be loaded
    """
    ours, theirs = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder.absolute())],
            cwd=_ROOT,
            stdin=ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            os.close(ours)
            ours = -1
            _, said = process.communicate()
    finally:
        os.close(theirs)
        if ours >= 0:
            os.close(ours)
    if process.returncode:
        why = said.strip().splitlines()[-1:] or [f"status {process.returncode}"]
        raise EngineError(f"the vectors were not indexed: {why[0]}")


def _end_with(file: int) -> None:
    """Die when the other end of a pipe is closed, even while the engine holds Python's lock: the
    kernel's signal for it ends a process that does not handle it.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(file, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([file], [], [], 0)[0]:
        sys.exit("its starter has ended")


def main(folder: Path) -> None:
    """Index; an error is the last line of stderr, and exit status 1."""
    _end_with(sys.stdin.fileno())
    os.nice(_NICER)
    try:
        shard = Shard.load(folder)
        shard.optimize()
        shard.close()
    except EngineError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
