"""The server of an embedded store on a disk that takes no write as long as a file says so.

    python -m tests.sick_disk_store FILE --data FOLDER

What the file holds is the error of each write.
"""

import sys
from pathlib import Path

from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.engine import EngineError
from connectors.qdrant.embedded.room import DiskFullError
from connectors.qdrant.embedded.server import main

FULL = "No space left on device: less than 64 MB are free on the disk of the store"


def check_room(collection: Collection) -> None:
    if SICK.exists():
        words = SICK.read_text()
        raise DiskFullError(words) if words == FULL else EngineError(words)


if __name__ == "__main__":
    SICK = Path(sys.argv[1])
    Collection._check_room = check_room  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
