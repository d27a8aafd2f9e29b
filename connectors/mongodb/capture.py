"""The thread that reads MongoDB: first a snapshot, then the change stream, without a gap."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from json import dumps
from typing import Any

from bson import Timestamp
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

from connectors.mongodb.changes import (
    Reassembly,
    changes_of,
    is_foreign,
    pipeline,
    renamed_into,
    rows,
    size_of,
    version_of,
)
from connectors.mongodb.checkpoints import SNAPSHOT, STREAM, Checkpoints, Position
from connectors.mongodb.handover import Entry, Handover
from connectors.mongodb.progress import SnapshotProgress
from connectors.mongodb.server import CODEC, NO_REPLICA_SET, operation_time, splits_large_events
from connectors.patience import Patience
from models import MAX_ORDINAL, CapturedChange
from models.errors import ConfigurationError, LostHistoryError

log = logging.getLogger("connectors")

LOST_HISTORY = {9, 260, 280, 286}
"""Codes of a resume token that cannot be used: FailedToParse, InvalidResumeToken,
ChangeStreamFatalError, ChangeStreamHistoryLost."""
_NOT_A_REPLICA_SET = 40573

_AWAIT_MS = 500
_MAX_WAIT_S = 5.0


class Capture:
    """Hands changes over from a thread of its own.

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
        self._handover = Handover()
        self._position: Position | None = None
        self._failure: Exception | None = None
        self._snapshot_begun = False
        self._matching = False
        self._split = False

    def start(self) -> None:
        """Start reading, without waiting for the server."""
        self._thread.start()

    def take(self, max_count: int, max_bytes: int) -> list[Entry]:
        """Changes and the positions behind them, in order; at least one if there is any.

        :raises ConfigurationError: what keeps this capture from ever working
        """
        if self._failure is not None:
            raise self._failure
        return self._handover.take(max_count, max_bytes)

    def commit(self, position: Position) -> None:
        """Have a position stored soon: everything before it has reached the broker."""
        self._handover.store(position)

    def close(self, timeout: float = 3.0) -> None:
        """Store the last committed position and end the thread. Never raises."""
        self._handover.close()
        self._thread.join(timeout)

    def _run(self) -> None:
        wait = 0.1
        try:
            client = self._connect()
            database = client.get_database(self._database_name, codec_options=CODEC)
            checkpoints = self._checkpoints(client)
            while not self._handover.closing:
                try:
                    self._capture(client, database, checkpoints)
                    wait = 0.1
                except LostHistoryError as error:
                    self._resnapshot_or_fail(client, checkpoints, error)
                except OperationFailure as error:
                    if error.code == _NOT_A_REPLICA_SET:
                        raise ConfigurationError(NO_REPLICA_SET) from error
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
        self._handover.pause(wait)

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
            raise LostHistoryError(
                f"the stored position is ahead of the cluster ({position.time} > {now}), and so "
                "may be the versions in the store, which fence off all older ones: docs/runbook.md"
            )
        if position.phase == SNAPSHOT:
            for entry, size in self._scan(database, position):
                self._emit(entry, size, checkpoints)
            if self._handover.closing:
                return
        self._follow(database, checkpoints)

    def _first_position(self, now: Timestamp, checkpoints: Checkpoints) -> Position:
        stored, fits = checkpoints.load()
        if stored is not None and not fits:
            raise LostHistoryError("the collections or options differ from those of the last run")
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
        self,
        client: "MongoClient[dict[str, Any]]",
        checkpoints: Checkpoints,
        error: LostHistoryError,
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
                    change = CapturedChange(
                        "snapshot", name, version, row["_id"], row, ordinal=MAX_ORDINAL
                    )
                    yield (change, here), size_of(row)
                    progress.advance()
            last = index + 1 == len(self._collections)
            behind = position.streaming() if last else here.scanning(self._collections[index + 1])
            sweep = CapturedChange("drop", name, version - 1, ordinal=MAX_ORDINAL)
            yield (sweep, behind), 0

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
            if not self._split and splits_large_events(database.client):
                # perhaps an event over 16 MB, or a token between the parts of one
                self._split = True
                return
            if error.code in LOST_HISTORY:
                raise LostHistoryError(
                    f"error {error.code}: {error.details or error}"[:300]
                ) from error
            raise

    def _read(
        self,
        stream: "ChangeStream[dict[str, Any]]",
        position: Position,
        checkpoints: Checkpoints,
    ) -> None:
        whole = Reassembly()
        while not self._handover.closing and stream.alive:
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
            # a stream that begins at a rename has read what it brought
            if (
                renamed_into(complete, self._collections)
                and complete["clusterTime"] > position.start
            ):
                self._position = self._begin_snapshot(complete["clusterTime"], checkpoints)
                return
            self._emit_event(complete, position, checkpoints)

    def _emit_event(
        self, event: Mapping[str, Any], position: Position, checkpoints: Checkpoints
    ) -> None:
        changes = changes_of(event, self._collections, self._propagate_drops)
        size = size_of(event.get("fullDocument") or {}) if changes else 0
        for change in changes[:-1]:
            self._emit((change, self._position or position), size, checkpoints)
        self._emit((changes[-1] if changes else None, position), size, checkpoints)

    def _emit(self, entry: Entry, size: int, checkpoints: Checkpoints) -> None:
        """Put an entry into the buffer; waits while it is full, storing positions meanwhile."""
        while not self._handover.put(entry, size):
            self._commit_now(checkpoints)
        self._position = entry[1]

    def _commit_now(self, checkpoints: Checkpoints) -> None:
        position = self._handover.to_store
        if position is not None:
            checkpoints.store(position)
            self._handover.stored(position)
