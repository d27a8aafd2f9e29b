"""The change stream as an input of a dataflow."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from pymongo import MongoClient

from connectors.mongodb.capture import Capture, Captured
from connectors.mongodb.positions import Position
from connectors.pace import Pace
from models import CapturedChange

_IDLE_COMMIT_S = 10.0


class MongoChangeStreamSource(FixedPartitionedSource[CapturedChange, None]):
    """What is in the registered collections, then every change of them.

    Parallelism: one partition, since one change stream on the database is one total order.
    Delivery: at least once; the position is stored in `checkpoint_database` when an epoch is
    closed, that is, when everything up to it has passed every output. After a resume: the changes
    of the epochs that were not closed come again, in the same order with the same versions; a
    snapshot goes on behind the last row of a closed epoch. A recovery directory adds nothing and
    costs nothing: the position lives in MongoDB.

    :param uri: full URI of a replica set
    :param database: the database to watch
    :param collections: its registered collections
    :param checkpoint_database: another database on the same server
    :param snapshot: `initial` reads what is there when nothing is stored yet, `always` at every
        start, `never` begins with the changes from now on
    :param on_lost_history: `resnapshot` or `fail`
    :param propagate_drops: whether dropping or renaming away a collection removes its documents
    :param stopping: when set, the source ends; what is in flight is written before the flow ends
    :param batch_size: changes handed on at a time
    """

    def __init__(
        self,
        uri: str,
        database: str,
        collections: Sequence[str],
        checkpoint_database: str,
        pipeline: str,
        *,
        snapshot: str = "initial",
        on_lost_history: str = "resnapshot",
        propagate_drops: bool = True,
        stopping: threading.Event | None = None,
        batch_size: int = 500,
        batch_bytes: int = 2**22,
    ) -> None:
        self._uri = uri
        self._captured = Captured(
            database=database,
            collections=tuple(collections),
            checkpoint_database=checkpoint_database,
            pipeline=pipeline,
            snapshot=snapshot,
            on_lost_history=on_lost_history,
            propagate_drops=propagate_drops,
        )
        self._stopping = stopping or threading.Event()
        self._batch = (batch_size, batch_bytes)
        self._built: list[_Partition] = []

    def list_parts(self) -> list[str]:
        """One total order."""
        return ["changes"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[CapturedChange, None]:
        """Start reading."""
        capture = Capture(self._connect, self._captured)
        capture.start()
        partition = _Partition(capture, self._stopping, *self._batch)
        self._built.append(partition)
        return partition

    def finish(self) -> None:
        """Store the position behind the last epoch, and disconnect.

        To be called when the dataflow has run to its end without an error, and only then: at that
        moment everything that was handed on has passed every output.
        """
        for partition in self._built:
            partition.finish()

    def _connect(self) -> "MongoClient[dict[str, Any]]":
        return MongoClient(
            self._uri, appname="twinstream-cdc", serverSelectionTimeoutMS=5000, tz_aware=True
        )


class _Partition(StatefulSourcePartition[CapturedChange, None]):
    def __init__(
        self, capture: Capture, stopping: threading.Event, max_count: int, max_bytes: int
    ) -> None:
        self._capture = capture
        self._stopping = stopping
        self._limits = (max_count, max_bytes)
        self._handed_on: Position | None = None
        self._closing: Position | None = None
        self._changes = 0
        self._committed_at = 0.0
        self._pace = Pace()

    def next_batch(self) -> list[CapturedChange]:
        # The first call behind snapshot() of an epoch runs when everything handed on up to that
        # snapshot has passed every output: the one safe moment to store the position.
        self._commit_closed()
        if self._stopping.is_set():
            raise StopIteration
        entries = self._capture.take(*self._limits)
        if entries:
            self._handed_on = entries[-1][1]
        changes = [change for change, _ in entries if change is not None]
        self._changes += len(changes)
        self._pace.note(bool(changes))
        return changes

    def next_awake(self) -> datetime | None:
        return self._pace.next_awake()

    def snapshot(self) -> None:
        if self._handed_on is None:
            return
        # A quiet stream moves its token on, too, but need not be stored every second.
        quiet = not self._changes and time.monotonic() - self._committed_at < _IDLE_COMMIT_S
        if not quiet:
            self._closing, self._handed_on = self._handed_on, None
            self._changes = 0

    def finish(self) -> None:
        self._closing = self._handed_on or self._closing
        self._commit_closed()
        self._capture.close()

    def _commit_closed(self) -> None:
        if self._closing is not None:
            self._capture.commit(self._closing)
            self._committed_at = time.monotonic()
            self._closing = None
