"""`flows.features` on a disk that takes no write as long as a file says so.

The file that `SICK_DISK` names holds the words of SQLite: full, broken or locked.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bytewax.dataflow import Dataflow
from qdrant_client.local.persistence import CollectionPersistence

from flows.features import ModelAndStore, assemble
from flows.settings import Settings
from tests.hashing import HashingEmbedder

SICK_DISK = "SICK_DISK"


def _unless_sick(write: Callable[..., None]) -> Callable[..., None]:
    file = Path(os.environ[SICK_DISK])

    def call(*arguments: Any) -> None:
        if file.exists():
            raise sqlite3.OperationalError(file.read_text())
        write(*arguments)

    return call


def flow() -> Dataflow:
    for name in ("persist", "delete"):
        write = getattr(CollectionPersistence, name)
        setattr(CollectionPersistence, name, _unless_sick(write))
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, HashingEmbedder()))
