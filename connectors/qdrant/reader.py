"""Opening the vector store for reading, beside a flow that writes to it.

The embedded store belongs to one process: the flow that has it open holds its lock. A reader
therefore opens a copy, taken collection by collection with SQLite's backup, which gives the last
committed state of each without disturbing the writer.
"""

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings, simplefilter

from qdrant_client import QdrantClient

from connectors.qdrant.client import QdrantSettings, open_server
from models.errors import StoreUnavailableError

SERVER_TIMEOUT_S: Final = 10
"""How long one request to a server may take."""

_META: Final = "meta.json"
_STORAGE: Final = "storage.sqlite"
_PATIENCE_S: Final = 5.0
_PATIENCE_FOR_META_S: Final = 0.5
_PAUSE_S: Final = 0.05


class _ChangedMeanwhileError(Exception):
    """Collections came or went during the copy."""


@contextmanager
def open_reader(settings: QdrantSettings) -> Iterator[QdrantClient]:
    """Yield a client on the server, or on a copy of the embedded store.

    The copy is taken now and removed at exit, so later writes are not seen. A server is not
    contacted before the first request.

    Raises:
        StoreUnavailableError: nothing has been stored yet, or for several seconds no
            consistent copy could be taken.
    """
    if settings.url:
        with closing(open_server(settings, SERVER_TIMEOUT_S)) as client:
            yield client
        return
    with (
        tempfile.TemporaryDirectory(prefix="twinstream-read-") as folder,
        closing(_open_copy(settings.path, Path(folder))) as client,
    ):
        yield client


def _open_copy(original: Path, folder: Path) -> QdrantClient:
    """Copy until a copy opens: a store can be created, or a collection added, at this moment."""
    if not original.is_dir():
        raise StoreUnavailableError(f"nothing stored yet: there is no folder {original}")
    started_at = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        copy = folder / str(attempt)
        try:
            _copy(original, copy)
            with catch_warnings():
                simplefilter("ignore")  # The number of points is a matter for the writer.
                return QdrantClient(path=str(copy), force_disable_check_same_thread=True)
        # A copy of two different moments shows up in many ways: files that are missing,
        # half-written JSON (ValueError), a table or a field that is not there yet.
        except (OSError, ValueError, KeyError, sqlite3.Error, _ChangedMeanwhileError) as error:
            shutil.rmtree(copy, ignore_errors=True)
            empty = not (original / _META).exists()
            patience = _PATIENCE_FOR_META_S if empty else _PATIENCE_S
            if time.monotonic() - started_at > patience:
                reason = f"cannot read the store at {original}: {error}"
                if empty:
                    reason = f"nothing stored yet: there is no {_META} in {original}"
                raise StoreUnavailableError(reason) from error
            time.sleep(_PAUSE_S)


def _copy(original: Path, copy: Path) -> None:
    meta = (original / _META).read_bytes()
    collections: dict[str, Any] = json.loads(meta)["collections"]
    for name in collections:
        source = original / "collection" / name / _STORAGE
        target = copy / "collection" / name / _STORAGE
        target.parent.mkdir(parents=True)
        _back_up(source, target)
    if (original / _META).read_bytes() != meta:
        raise _ChangedMeanwhileError("collections came or went during the copy")
    (copy / _META).write_bytes(meta)


def _back_up(source: Path, target: Path) -> None:
    # mode=rw, not ro: only then can SQLite roll back what a killed writer left half done. It
    # never creates the file, and falls back to reading where writing is not allowed.
    uri = f"{source.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True)) as reading, closing(sqlite3.connect(target)) as to:
        to.execute("PRAGMA synchronous=OFF")  # A copy that a crash spoils is a copy nobody reads.
        # All pages in one step: a backup in several starts again at each commit of the writer.
        reading.backup(to, pages=-1, sleep=0.01)
