"""The thread that reads MongoDB: first a snapshot, then the change stream, without a gap."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from json import dumps
from typing import Any

from bson import Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient
from pymongo.change_stream import ChangeStream
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError as MongoConfigurationError,
)
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from connectors.changes import (
    Reassembly,
    changes_of,
    is_foreign,
    pipeline,
    renamed_into,
    rows,
    size_of,
    version_of,
)
from connectors.checkpoints import SNAPSHOT, STREAM, Checkpoints, Position
from connectors.errors import ConfigurationError, Patience
from connectors.progress import SnapshotProgress
from models import Change

log = logging.getLogger("connectors")

LOST_HISTORY = {9, 260, 280, 286}
"""Codes of a resume token that cannot be used: FailedToParse, InvalidResumeToken,
ChangeStreamFatalError, ChangeStreamHistoryLost."""
_NOT_A_REPLICA_SET = 40573

MAX_BUFFERED = 4000
MAX_BUFFERED_BYTES = 32 * 2**20
_AWAIT_MS = 500
_MAX_WAIT_S = 5.0

# What a document holds is the document's affair: bytes that are no UTF-8 and dates beyond year
# 9999 must not stop the capture of all the others.
CODEC: "CodecOptions[dict[str, Any]]" = CodecOptions(
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    tz_aware=True,
)

Entry = tuple[Change | None, Position]


class LostHistory(Exception):
    """The stored position can no longer be continued from."""


class Capture:
    """Reads changes into a bounded buffer, in a thread of its own.

    :param connect: makes the client; called again after nothing, since the driver reconnects
    :param database: the database to watch
    :param collections: the registered collections
    :param checkpoint_database: where the position is kept
    :param snapshot: `initial`, `never` or `always`
    :param on_lost_history: `resnapshot` or `fail`
    :param propagate_drops: whether dropping a collection removes its documents
    """

    def __init__(
        self,
        connect: Callable[[], "MongoClient[dict[str, Any]]"],
        database: str,
        collections: Sequence[str],
        checkpoint_database: str,
        snapshot: str,
        on_lost_history: str,
        propagate_drops: bool,
    ) -> None:
        self._connect = connect
        self._database_name = database
        self._collections = list(collections)
        self._checkpoint_database = checkpoint_database
        self._snapshot_mode = snapshot
        self._on_lost_history = on_lost_history
        self._propagate_drops = propagate_drops
        self._patience = Patience("MongoDB", lambda error: True)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._changed = threading.Condition()
        self._buffer: deque[tuple[Entry, int]] = deque()
        self._bytes = 0
        self._closing = False
        self._position: Position | None = None
        self._to_commit: Position | None = None
        self._failure: Exception | None = None
        self._snapshot_begun = False
        self._matching = False
        self._split = False

    def start(self) -> None:
        """Start reading, without waiting for the server."""
        self._thread.start()

    def take(self, max_count: int, max_bytes: int) -> list[Entry]:
        """Entries from the buffer, in order; at least one if there is any.

        :raises ConfigurationError: what keeps this capture from ever working
        """
        if self._failure is not None:
            raise self._failure
        taken: list[Entry] = []
        size = 0
        with self._changed:
            while self._buffer and len(taken) < max_count:
                entry, bytes_ = self._buffer[0]
                if taken and size + bytes_ > max_bytes:
                    break
                self._buffer.popleft()
                self._bytes -= bytes_
                size += bytes_
                taken.append(entry)
            if taken:
                self._changed.notify_all()
        return taken

    def commit(self, position: Position) -> None:
        """Have a position stored soon: everything before it has reached the broker."""
        with self._changed:
            self._to_commit = position
            self._changed.notify_all()

    def close(self, timeout: float = 3.0) -> None:
        """Store the last committed position and end the thread. Never raises."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        wait = 0.1
        try:
            client = self._connect()
            database = client.get_database(self._database_name, codec_options=CODEC)
            checkpoints = self._checkpoints(client)
            while not self._closing:
                try:
                    self._capture(client, database, checkpoints)
                    wait = 0.1
                except LostHistory as error:
                    self._resnapshot_or_fail(client, checkpoints, error)
                except OperationFailure as error:
                    if error.code == _NOT_A_REPLICA_SET:
                        raise ConfigurationError(
                            "MONGO_DATABASE_HOST is no replica set, and change streams need one: "
                            "start mongod with --replSet and run rs.initiate()"
                        ) from error
                    self._pause(error, wait)
                    wait = min(_MAX_WAIT_S, wait * 2)
                except MongoConfigurationError as error:
                    raise ConfigurationError(f"MONGO_DATABASE_HOST: {error}") from error
                except PyMongoError as error:
                    self._pause(error, wait)
                    wait = min(_MAX_WAIT_S, wait * 2)
            self._commit_now(checkpoints)
            client.close()
        except ConnectionFailure as error:  # only the last commit: it is repeated after a restart
            log.warning("the last position was not stored: %s", error)
        except Exception as error:  # noqa: BLE001 (handed to the flow, which ends with it)
            self._failure = error

    def _pause(self, error: PyMongoError, wait: float) -> None:
        self._patience.away(error)
        deadline = time.monotonic() + wait
        with self._changed:
            while not self._closing and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _checkpoints(self, client: "MongoClient[dict[str, Any]]") -> Checkpoints:
        described = dumps(
            [
                self._database_name,
                sorted(self._collections),
                pipeline(self._collections, matching=True, split=False),
            ]
        )
        fingerprint = sha256(described.encode()).hexdigest()
        collection = client[self._checkpoint_database].get_collection(
            "checkpoints", codec_options=CODEC
        )
        return Checkpoints(collection, f"cdc/{self._database_name}", fingerprint)

    def _capture(
        self,
        client: "MongoClient[dict[str, Any]]",
        database: "Database[dict[str, Any]]",
        checkpoints: Checkpoints,
    ) -> None:
        """Go on from the last position until the stream ends or an error is raised."""
        now = operation_time(client)
        position = self._position
        if position is None:
            position = self._first_position(now, checkpoints)
            self._position = position
        if position.time is not None and position.time > now:
            raise LostHistory(
                f"the stored position is ahead of the cluster ({position.time} > {now}), and so "
                "may be the versions in the store, which fence off all older ones: docs/runbook.md"
            )
        if position.phase == SNAPSHOT:
            for entry, size in self._scan(database, position):
                self._emit(entry, size, checkpoints)
            if self._closing:
                return
        self._follow(database, checkpoints)

    def _first_position(self, now: Timestamp, checkpoints: Checkpoints) -> Position:
        stored, fits = checkpoints.load()
        if stored is not None and not fits:
            raise LostHistory("the collections or options differ from those of the last run")
        again = self._snapshot_mode == "always" and not self._snapshot_begun
        if stored is not None and (stored.phase == SNAPSHOT or not again):
            self._snapshot_begun = True
            return stored
        if self._snapshot_mode == "never":
            position = Position(STREAM, now, time=now)
            checkpoints.store(position)
            return position
        return self._begin_snapshot(now, checkpoints)

    def _begin_snapshot(self, now: Timestamp, checkpoints: Checkpoints) -> Position:
        """Store the time before the first row goes out: what is deleted between two attempts at
        the same snapshot would otherwise stay in the store for ever.
        """
        position = Position(SNAPSHOT, now, time=now)
        checkpoints.store(position)
        self._snapshot_begun = True
        log.info("snapshot of %s begins", ", ".join(self._collections))
        return position

    def _resnapshot_or_fail(
        self, client: "MongoClient[dict[str, Any]]", checkpoints: Checkpoints, error: LostHistory
    ) -> None:
        if self._on_lost_history == "fail":
            raise ConfigurationError(
                f"MongoDB's history since the last position is lost ({error}); set "
                "CDC_ON_LOST_HISTORY=resnapshot to read everything again"
            ) from error
        log.warning("history is lost, reading everything again: %s", error)
        self._position = self._begin_snapshot(operation_time(client), checkpoints)

    def _scan(
        self, database: "Database[dict[str, Any]]", position: Position
    ) -> Iterator[tuple[Entry, int]]:
        """Rows of all collections in the order of `_id`, from a position on.

        Behind each collection comes a drop of what is older than the snapshot: documents that
        were deleted while nobody looked.
        """
        version = version_of(position.start)
        first = self._collections.index(position.collection) if position.collection else 0
        for index in range(first, len(self._collections)):
            name = self._collections[index]
            last_id = position.last_id if name == position.collection else None
            here = position.scanning(name, last_id)
            collection = database.get_collection(name, read_concern=ReadConcern("majority"))
            with SnapshotProgress(name, collection.estimated_document_count()) as progress:
                for row in rows(collection, last_id):
                    here = here.scanning(name, (row["_id"],))
                    change = Change("snapshot", name, version, row["_id"], row)
                    yield (change, here), size_of(row)
                    progress.advance()
            last = index + 1 == len(self._collections)
            behind = position.streaming() if last else here.scanning(self._collections[index + 1])
            yield (Change("drop", name, version - 1), behind), 0

    def _follow(self, database: "Database[dict[str, Any]]", checkpoints: Checkpoints) -> None:
        """Read the change stream until it is invalidated, or for ever.

        Both stages of its pipeline cost the server something for each event, so it gets each of
        them when it turns out to be needed, and from then on.
        """
        position = self._position
        assert position is not None
        options: dict[str, Any] = {"full_document": "updateLookup", "max_await_time_ms": _AWAIT_MS}
        if position.token is None:
            options["start_at_operation_time"] = position.start
        else:
            options["start_after" if position.invalidated else "resume_after"] = position.token
        stages = pipeline(self._collections, matching=self._matching, split=self._split)
        try:
            with database.watch(stages, batch_size=1000, **options) as stream:
                self._patience.back()
                self._read(stream, position, checkpoints)
        except OperationFailure as error:
            if not self._split and _splits_large_events(database.client):
                # perhaps an event over 16 MB, or a token between the parts of one
                self._split = True
                return
            if error.code in LOST_HISTORY:
                raise LostHistory(f"error {error.code}: {error.details or error}"[:300]) from error
            raise

    def _read(
        self,
        stream: "ChangeStream[dict[str, Any]]",
        position: Position,
        checkpoints: Checkpoints,
    ) -> None:
        whole = Reassembly()
        while not self._closing and stream.alive:
            if self._to_commit is not None:
                self._commit_now(checkpoints)
            event = stream.try_next()
            if event is None:
                token = stream.resume_token
                if token is not None and token != position.token and not whole.pending:
                    position = position._replace(token=token, invalidated=False)
                    self._emit((None, position), 0, checkpoints)
                continue
            complete = whole.add(event)
            if complete is None:
                continue
            if not self._matching and is_foreign(complete, self._collections):
                # begin again behind the last event of ours: a stream that matches may not know
                # the token of this one
                self._matching = True
                return
            position = Position(
                STREAM,
                position.start,
                token=complete["_id"],
                invalidated=complete["operationType"] == "invalidate",
                time=complete["clusterTime"],
            )
            # the stream begins at the rename itself: that one has been read already
            seen = complete["clusterTime"] <= position.start
            if renamed_into(complete, self._collections) and not seen:
                self._position = self._begin_snapshot(complete["clusterTime"], checkpoints)
                return
            self._emit_event(complete, position, checkpoints)

    def _emit_event(
        self, event: Mapping[str, Any], position: Position, checkpoints: Checkpoints
    ) -> None:
        changes = list(changes_of(event, self._collections, self._propagate_drops))
        size = size_of(event.get("fullDocument") or {}) if changes else 0
        for change in changes[:-1]:
            self._emit((change, self._position or position), size, checkpoints)
        self._emit((changes[-1] if changes else None, position), size, checkpoints)

    def _emit(self, entry: Entry, size: int, checkpoints: Checkpoints) -> None:
        """Put an entry into the buffer; waits while it is full, storing positions meanwhile."""
        while not self._put(entry, size):
            self._commit_now(checkpoints)

    def _put(self, entry: Entry, size: int) -> bool:
        with self._changed:
            if self._closing:
                return True
            if len(self._buffer) >= MAX_BUFFERED or self._bytes >= MAX_BUFFERED_BYTES:
                if self._to_commit is None:
                    self._changed.wait(0.5)
                return False
            # an idle token only moves the last one on
            if entry[0] is None and self._buffer and self._buffer[-1][0][0] is None:
                self._buffer.pop()
            self._buffer.append((entry, size))
            self._bytes += size
        self._position = entry[1]
        return True

    def _commit_now(self, checkpoints: Checkpoints) -> None:
        with self._changed:
            position = self._to_commit
        if position is None:
            return
        checkpoints.store(position)
        with self._changed:
            if self._to_commit is position:
                self._to_commit = None


def _splits_large_events(client: "MongoClient[dict[str, Any]]") -> bool:
    version: list[int] = client.server_info()["versionArray"]
    return version >= [6, 0, 9]


def operation_time(client: "MongoClient[dict[str, Any]]") -> Timestamp:
    """The cluster time now.

    :raises ConfigurationError: the server is no replica set
    """
    answer = client.admin.command("hello")
    time_ = answer.get("operationTime")
    if not isinstance(time_, Timestamp):
        raise ConfigurationError(
            "MONGO_DATABASE_HOST is no replica set, and change streams need one: start mongod "
            "with --replSet and run rs.initiate()"
        )
    return time_
