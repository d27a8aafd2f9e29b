"""Reads on from a position: the stream, and between its events what is still to be scanned."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import Any

from bson import Timestamp
from pymongo import MongoClient

from connectors.mongodb.changes import changes_of, renamed_into
from connectors.mongodb.handover import Entry
from connectors.mongodb.positions import Position, Scan, StreamPosition
from connectors.mongodb.scan import CausalReads, causal_reads
from connectors.mongodb.sizes import size_of
from connectors.mongodb.snapshot import scanned
from connectors.mongodb.stream import Event, EventStream, StagesChangedError
from models import CapturedChange

log = logging.getLogger("connectors")

_AWAIT_MS = 500
_SCANNING_AWAIT_MS = 20
_ROWS = 1000
_ROWS_S = 1.0
_EVENTS = 10_000


class Reader:
    """Turns the documents of a database, and the changes of them, into entries.

    Stream and scans take turns, and each entry has the position of both. So a scan may take longer
    than the history of the stream reaches, and the version of a row, read before the scan, lets
    the store drop it where the stream has brought something newer.

    :param database: the database to watch
    :param collections: its registered collections
    :param propagate_drops: whether dropping a collection removes its documents
    :param emit: takes an entry and its size, in order; may wait
    :param tend: called often; whether to go on
    """

    def __init__(
        self,
        database: str,
        collections: Sequence[str],
        propagate_drops: bool,
        emit: Callable[[Entry, int], None],
        tend: Callable[[], bool],
    ) -> None:
        self._database = database
        self._collections = list(collections)
        self._propagate_drops = propagate_drops
        self._emit = emit
        self._tend = tend
        self._stream = EventStream(collections)
        self.position: Position | None = None
        """The position after the last entry; to be set before the first one."""

    def read(self, client: "MongoClient[dict[str, Any]]", opened: Callable[[], None]) -> None:
        """Read on until the stream is to be opened again, or there is no more to do.

        :param opened: called each time that the servers have answered
        :raises LostHistoryError: the position cannot be used
        """
        position = self._here
        scanning = bool(position.scans)
        after = max([position.stream.time or position.stream.start, *_times(position)])
        await_ms = _SCANNING_AWAIT_MS if scanning else _AWAIT_MS
        with (
            suppress(StagesChangedError),
            causal_reads(client, self._database, after) as reads,
            self._stream.opened(reads, position.stream, await_ms),
            closing(_Rows(reads)) as rows,
        ):
            while self._stream.alive and scanning == bool(self._here.scans) and self._tend():
                self._scan_some(rows)
                self._follow_some()
                opened()

    @property
    def _here(self) -> Position:
        assert self.position is not None
        return self.position

    def _scan_some(self, rows: "_Rows") -> None:
        if not self._here.scans:
            return
        until = time.monotonic() + _ROWS_S
        for change, left in islice(rows.of(self._here.scans[0]), _ROWS):
            stream, scans = self._here
            to_do = (left, *scans[1:]) if left else scans[1:]
            self._put(change, Position(stream, to_do), size_of(change.document or {}))
            if left is None or not self._tend() or time.monotonic() > until:
                return

    def _follow_some(self) -> None:
        """Until nothing is there for the moment: the stream grows old, the scan does not."""
        for _ in range(_EVENTS):
            if not self._tend():
                return
            event, stream = self._stream.read()
            if event is None:
                if stream is not self._here.stream:
                    self._put(None, self._here._replace(stream=stream), 0)
                return
            self._put_event(event, stream)
            if not self._stream.alive:
                return

    def _put_event(self, event: Event, stream: StreamPosition) -> None:
        changes = changes_of(event, self._collections, self._propagate_drops, stream.ordinal - 1)
        size = size_of(event.get("fullDocument") or {}) if changes else 0
        for change in changes[:-1]:
            self._put(change, self._here, size)
        after = Position(stream, self._scans_after(event, stream))
        self._put(changes[-1] if changes else None, after, size)

    def _scans_after(self, event: Event, stream: StreamPosition) -> tuple[Scan, ...]:
        """The documents of a rename show up in no other event: they are scanned, with the time of
        the rename as their version. Until the scan is over the position says so, and before the
        rename has a position of its own it is read again; so nothing needs to be stored first.
        """
        scans = self._here.scans
        # what a stream begins with, the snapshot has seen
        if not renamed_into(event, self._collections) or event["clusterTime"] <= stream.start:
            return scans
        name = event["to"]["coll"]
        log.info("%s was renamed into place: a snapshot of it begins", name)
        left = (scan for scan in scans if scan.collection != name)
        return (*left, Scan(name, event["clusterTime"]))

    def _put(self, change: CapturedChange | None, position: Position, size: int) -> None:
        self._emit((change, position), size)
        self.position = position


class _Rows:
    """Rows of one scan at a time, which is left open between two turns."""

    def __init__(self, reads: CausalReads) -> None:
        self._reads = reads
        self._scan: tuple[str, Timestamp] | None = None
        self._rows: Generator[tuple[CapturedChange, Scan | None]] | None = None

    def of(self, scan: Scan) -> Iterator[tuple[CapturedChange, Scan | None]]:
        """The rows of a scan that are not read yet."""
        if self._rows is None or self._scan != (scan.collection, scan.time):
            self.close()
            self._scan, self._rows = (scan.collection, scan.time), scanned(self._reads, scan)
        return self._rows

    def close(self) -> None:
        """Give back what the server holds for it."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None


def _times(position: Position) -> list[Timestamp]:
    return [scan.time for scan in position.scans]
