"""The change stream as an input of a dataflow."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from pymongo import MongoClient

from connectors.mongodb.capture import Capture, Captured
from connectors.mongodb.positions import Position
from connectors.pace import Pace
from models import CapturedChange

_IDLE_COMMIT_S = 10.0


class Publisher(Protocol):
    """Where the messages go that are made of the changes, without making anybody wait."""

    @property
    def submitted(self) -> int:
        """How many messages it was given so far."""
        ...

    @property
    def confirmed(self) -> int:
        """How many of these, counted from the first without a gap, are safe."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether more is welcome."""
        ...

    def start(self) -> None:
        """Connect; nothing, if that was done before."""
        ...

    def check(self) -> None:
        """Raise what keeps it from ever publishing."""
        ...


class MongoChangeStreamSource(FixedPartitionedSource[CapturedChange, None]):
    """The documents of the registered collections, then every change of them.

    Parallelism: one partition, since one change stream on the database is one total order.
    Delivery: at least once; the position is stored in `checkpoint_database` when an epoch is
    closed, that is, when everything up to it has passed every output, and when `publisher` has
    confirmed everything that was submitted until then. After a resume: the changes of all other
    epochs come again, in the same order with the same versions; a
    snapshot goes on after the last row of a closed epoch. A recovery directory adds nothing and
    costs nothing: the position lives in MongoDB.

    :param uri: full URI of a replica set
    :param database: the database to watch
    :param collections: its registered collections
    :param checkpoint_database: another database on the same server
    :param pipeline: name of the checkpoint, see `pipeline_name`
    :param publisher: takes what is made of the changes, on the worker that made it; while it is
        full, no change is handed on
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
        publisher: Publisher,
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
        self._publisher = publisher
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
        self._publisher.start()
        partition = _Partition(capture, self._publisher, self._stopping, *self._batch)
        self._built.append(partition)
        return partition

    def finish(self) -> bool:
        """Store the position of what is confirmed by now; whether that was all of it.

        To be called when the dataflow has run to its end without an error, and only then: at that
        moment everything that was handed on has passed every output.

        :raises ConnectorFailedError: what is left cannot be confirmed any more
        """
        finished = [partition.finish() for partition in self._built]
        return all(finished)

    def close(self) -> None:
        """Store the last position, and disconnect. Never raises."""
        for partition in self._built:
            partition.disconnect()

    def _connect(self) -> "MongoClient[dict[str, Any]]":
        return MongoClient(
            self._uri, appname="twinstream-cdc", serverSelectionTimeoutMS=5000, tz_aware=True
        )


class _Partition(StatefulSourcePartition[CapturedChange, None]):
    def __init__(
        self,
        capture: Capture,
        publisher: Publisher,
        stopping: threading.Event,
        max_count: int,
        max_bytes: int,
    ) -> None:
        self._capture = capture
        self._publisher = publisher
        self._stopping = stopping
        self._limits = (max_count, max_bytes)
        self._handed_on: Position | None = None
        self._closing: Position | None = None
        self._closed: deque[tuple[int, Position]] = deque()
        self._changes = 0
        self._committed_at = 0.0
        self._pace = Pace()

    def next_batch(self) -> list[CapturedChange]:
        # The first call after snapshot() of an epoch runs when everything handed on up to that
        # snapshot has passed every output: its messages have all been submitted, and no other.
        self._close_epoch()
        self._commit_confirmed()
        self._publisher.check()
        if self._stopping.is_set():
            raise StopIteration
        entries = self._capture.take(*self._limits) if self._publisher.has_room else []
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

    def finish(self) -> bool:
        self._closing = self._handed_on or self._closing
        self._handed_on = None
        self._close_epoch()
        self._commit_confirmed()
        if self._closed:
            self._publisher.check()
        return not self._closed

    def disconnect(self) -> None:
        self._capture.close()

    def _close_epoch(self) -> None:
        if self._closing is not None:
            submitted = self._publisher.submitted
            if self._closed and self._closed[-1][0] == submitted:
                self._closed.pop()
            self._closed.append((submitted, self._closing))
            self._committed_at = time.monotonic()
            self._closing = None

    def _commit_confirmed(self) -> None:
        confirmed = self._publisher.confirmed
        position = None
        while self._closed and self._closed[0][0] <= confirmed:
            _, position = self._closed.popleft()
        if position is not None:
            self._capture.commit(position)
