"""Time from the commit of a write to the moment when a reader of the store sees it."""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qdrant_client import QdrantClient
from typing_extensions import Self

from connectors.qdrant import STORE_ERRORS, QdrantSettings, cleaned, open_reader
from models import entry_id_of, record_id

_LOOK_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is on its way to the store."""

    collection: str
    identity: Any
    """The `_id`."""
    deleted: bool
    begun_at: float
    """Unix time just before the write was sent, so the commit itself is in the time as well."""


@dataclass(slots=True)
class Stopwatch:
    """A thread that looks for the records of writes in the store every 10 ms.

    The record of a document is written after its chunks, so a document with a record is searchable.
    """

    store: QdrantSettings
    arrived: list[tuple[Write, float]] = field(default_factory=list)
    """Every write that a reader has found, with the seconds that it took."""
    _awaited: list[Write] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, name="stopwatch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def awaited(self) -> int:
        """How many writes have not arrived yet."""
        return len(self._awaited)

    def expect(self, write: Write) -> None:
        """Wait for a write; no other write may touch the same document."""
        with self._lock:
            self._awaited.append(write)

    def _look(self) -> None:
        with open_reader(self.store) as client:
            while not self._ended.wait(_LOOK_EVERY_S):
                with self._lock:
                    awaited = list(self._awaited)
                for write in awaited:
                    if _arrived(client, write):
                        self.arrived.append((write, time.time() - write.begun_at))
                        with self._lock:
                            self._awaited.remove(write)


def _arrived(client: QdrantClient, write: Write) -> bool:
    id_ = record_id(write.collection, entry_id_of(write.identity))
    try:
        records = client.retrieve(cleaned(write.collection), [id_], with_payload=["indexed_at"])
    except STORE_ERRORS:  # away, or without this collection as yet: look again
        return False
    if write.deleted:
        return not records
    return any((record.payload or {})["indexed_at"] >= write.begun_at for record in records)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that is not exceeded by `share` of them; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
