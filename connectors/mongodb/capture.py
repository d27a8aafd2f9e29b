"""The thread that reads MongoDB: all documents, then every change of them."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from connectors.mongodb.beginning import Beginning, fingerprint
from connectors.mongodb.checkpoints import Checkpoints, checkpoints_of
from connectors.mongodb.handover import Entry, Handover
from connectors.mongodb.lease import BEAT_S, POLL_S, Lease
from connectors.mongodb.positions import Position
from connectors.mongodb.reader import Reader
from connectors.mongodb.server import CODEC, ClusterTime, cluster_time, is_away, reason_of
from connectors.patience import Absence, Backoff, Patience
from connectors.thread import ConnectorThread
from models.errors import ConnectorFailedError, LostHistoryError

log = logging.getLogger("connectors")

_STILL_S = 3600.0
"""A server may search its whole history for a token before it answers."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The documents to capture, and the place of the position in them."""

    database: str
    collections: tuple[str, ...]
    checkpoint_database: str
    pipeline: str
    """`_id` of the checkpoint, see `pipeline_name`."""
    snapshot: str
    """`initial`, `never` or `always`."""
    on_lost_history: str
    """`resnapshot` or `fail`."""
    propagate_drops: bool
    """Whether dropping a collection removes its documents."""


class Capture:
    """Reads changes in its own thread and hands them over.

    1. own the pipeline, or stand by until that is possible
    2. load the stored position, or begin a snapshot
    3. read on from there
    4. store each position that `commit` names

    After an error that may pass, at any step, the capture waits and begins again at step 1, from
    the last position that was handed over.

    :param connect: makes a client; the driver connects again by itself
    :param captured: what to read
    """

    def __init__(
        self, connect: Callable[[], "MongoClient[dict[str, Any]]"], captured: Captured
    ) -> None:
        self._connect = connect
        self._captured = captured
        self._patience = Patience(
            "MongoDB", is_away, explain=lambda error: Absence(reason_of(error))
        )
        self._backoff = Backoff()
        self._thread = ConnectorThread("capture", self._work, _STILL_S)
        self._keeper = ConnectorThread("lease", self._keep)
        self._handover = Handover()
        self._reader = Reader(
            captured.database,
            captured.collections,
            captured.propagate_drops,
            self._emit,
            self._tend,
        )
        self._beginning = Beginning(
            captured.collections,
            captured.snapshot,
            captured.on_lost_history,
            self._now,
            self._thread.pause,
        )
        self._client: MongoClient[dict[str, Any]] | None = None
        self._lease: Lease | None = None
        self._checkpoints: Checkpoints | None = None
        self._lost: LostHistoryError | None = None

    def start(self) -> None:
        """Start reading, without waiting for the server."""
        self._thread.start()

    def take(self, max_count: int, max_bytes: int) -> list[Entry]:
        """Changes and the positions after them, in order; at least one if there is any.

        :raises ConfigurationError: a person has to mend something
        :raises ConnectorFailedError: a thread has ended, or another capture owns the pipeline
        """
        self._keeper.check()
        self._thread.check()
        return self._handover.take(max_count, max_bytes)

    def commit(self, position: Position) -> None:
        """Have a position stored soon: everything before it has reached the broker."""
        self._handover.store(position)

    def close(self, timeout: float = 3.0) -> None:
        """Store the last committed position, give the pipeline back, and end the threads. Never
        raises.
        """
        self._thread.end_soon()
        self._handover.close()
        self._thread.close(timeout)
        self._keeper.close(0)

    def _work(self) -> None:
        while not self._thread.closing:
            try:
                self._go_on()
            except LostHistoryError as error:
                # for the next try, which waits for errors on the way like any other
                self._lost = error
                self._thread.pause(self._backoff.next())
            except PyMongoError as error:
                if not is_away(error):
                    raise
                self._patience.away(error)
                self._thread.pause(self._backoff.next())
        self._leave()

    def _go_on(self) -> None:
        """All steps, until the stream is to be opened again or something fails."""
        if self._client is None:
            self._client = self._connect()
        checkpoints = self._owned(self._client)
        if checkpoints is None:
            self._thread.pause(POLL_S)
            return
        reader = self._reader
        if self._lost is not None:
            reader.position = self._beginning.after_loss(checkpoints, self._lost)
            self._lost = None
        elif reader.position is None:
            reader.position = self._beginning.position(checkpoints)
        self._beginning.check_time(reader.position)
        reader.read(self._client, self._answered)

    def _owned(self, client: "MongoClient[dict[str, Any]]") -> Checkpoints | None:
        """The checkpoint, once this capture owns the pipeline."""
        if self._checkpoints is not None:
            return self._checkpoints
        captured = self._captured
        collection = checkpoints_of(client, captured.checkpoint_database, CODEC)
        if self._lease is None:
            self._lease = Lease(collection, captured.pipeline, f"cdc/{captured.database}")
        owned = self._lease.take()
        self._answered()
        if owned:
            self._keeper.start()
            mark = fingerprint(captured.database, captured.collections)
            self._checkpoints = Checkpoints(collection, self._lease, mark)
        return self._checkpoints

    def _keep(self) -> None:
        assert self._lease is not None
        while not self._keeper.closing:
            with suppress(PyMongoError):  # it is away for the other thread, too, which says so
                self._lease.beat()
            self._keeper.pause(BEAT_S)

    def _now(self) -> ClusterTime:
        assert self._client is not None
        captured = self._captured
        return cluster_time(self._client, captured.database, captured.collections[0])

    def _answered(self) -> None:
        self._patience.back()
        self._backoff.reset()
        self._thread.beat()

    def _emit(self, entry: Entry, size: int) -> None:
        """Put an entry into the buffer; waits while it is full, storing positions meanwhile."""
        while not self._handover.put(entry, size):
            self._thread.beat()
            self._store()

    def _tend(self) -> bool:
        if self._handover.to_store is not None:
            self._store()
        return not self._handover.closing

    def _store(self) -> None:
        position = self._handover.to_store
        if position is not None and self._checkpoints is not None:
            self._checkpoints.store(position)
            self._handover.stored(position)

    def _leave(self) -> None:
        self._keeper.end_soon()
        try:
            self._store()
            if self._checkpoints is not None and self._lease is not None:
                self._lease.release()
        except (PyMongoError, ConnectorFailedError) as error:
            log.warning("the last position was not stored: %s", reason_of(error))
        if self._client is not None:
            self._client.close()
