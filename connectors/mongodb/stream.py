"""The change stream from a position on: whole events, each with the position after it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from pymongo.change_stream import ChangeStream
from pymongo.errors import OperationFailure

from connectors.mongodb.positions import StreamPosition
from connectors.mongodb.scan import CausalReads
from connectors.mongodb.server import splits_large_events
from connectors.mongodb.stages import SPLIT, WITHOUT_DOCUMENTS, Reassembly, match
from models.errors import LostHistoryError

LOST_HISTORY = {9, 260, 280, 286, 40647, 50811}
"""Codes of a resume token that cannot be used: FailedToParse, InvalidResumeToken,
ChangeStreamFatalError, ChangeStreamHistoryLost, and the two of a token that is damaged."""
_TOO_LARGE = 10334
"""BSONObjectTooLarge: an event over 16 MB that the stream does not split."""
_UNKNOWN_STAGE = 40324
_BATCH = 1000
_LEAN_EVENTS = 100

Event = Mapping[str, Any]


class StagesChangedError(Exception):
    """The stream is to be opened again, from the same position: it needs another stage."""


class EventStream:
    """Events of the registered collections; opened anew as often as it takes.

    The match is there from the first event on, since the server refuses a token whose event the
    stream would not return. The split is added when an event turns out to be too large, or where
    a position needs it: it costs SecantusDB a quarter of its throughput. A server that cannot
    split has the next hundred events read without their documents, which are then looked up: that
    is what `updateLookup` does, too, only later.

    :param collections: the registered collections
    """

    def __init__(self, collections: Sequence[str]) -> None:
        self._match = match(collections)
        self._splits = True
        self._split = False
        self._lean = 0
        self._reopen = False
        self._whole = Reassembly()

    @contextmanager
    def opened(self, reads: CausalReads, position: StreamPosition, await_ms: int) -> Iterator[None]:
        """Have the stream open for the length of a block.

        :param await_ms: how long the server may wait for an event
        :raises StagesChangedError: open it again
        :raises LostHistoryError: the position cannot be used
        """
        self._reads, self._position = reads, position
        self._split = self._splits and (self._split or position.split)
        self._whole, self._reopen = Reassembly(), False
        with self._watch(await_ms) as self._stream:
            yield

    @property
    def alive(self) -> bool:
        """Whether there may be more; an invalidated stream ends."""
        return self._stream.alive

    def read(self) -> tuple[Event | None, StreamPosition]:
        """The next event and the position after it; without one, the position may have moved.

        :raises StagesChangedError: open it again
        :raises LostHistoryError: the position cannot be used
        """
        if self._reopen:
            raise StagesChangedError
        while True:
            try:
                event = self._stream.try_next()
            except OperationFailure as error:
                self._mend(error)
            if event is None:
                return None, self._quiet()
            complete = self._whole.add(event) if "splitEvent" in event else event
            if complete is not None:
                self._position = self._after(complete)
                return (self._with_document(complete) if self._lean else complete), self._position

    def _watch(self, await_ms: int) -> "ChangeStream[dict[str, Any]]":
        position = self._position
        options: dict[str, Any] = {"max_await_time_ms": await_ms, "session": self._reads.session}
        if position.token is None:
            options["start_at_operation_time"] = position.start
        else:
            options["start_after" if position.invalidated else "resume_after"] = position.token
        stages = [self._match]
        if self._lean:
            stages.append(WITHOUT_DOCUMENTS)
        else:
            options["full_document"] = "updateLookup"
        if self._split:
            stages.append(SPLIT)
        size = _LEAN_EVENTS if self._lean else _BATCH
        try:
            return self._reads.database.watch(stages, batch_size=size, **options)
        except OperationFailure as error:
            self._mend(error)

    def _mend(self, error: OperationFailure) -> NoReturn:
        lost = error.code in LOST_HISTORY
        if error.code == _UNKNOWN_STAGE and self._split:
            self._splits = self._split = False
            raise StagesChangedError from error
        # a lost position may also be one between the parts of an event
        if (lost or error.code == _TOO_LARGE) and not self._split and self._can_split():
            self._split = True
            raise StagesChangedError from error
        # parts of an event without its document would be other parts
        if error.code == _TOO_LARGE and not self._lean and not self._position.split:
            self._lean = _LEAN_EVENTS
            raise StagesChangedError from error
        if lost:
            self._split = False
            raise LostHistoryError(f"error {error.code}: {error.details or error}"[:300]) from error
        raise error

    def _can_split(self) -> bool:
        return self._splits and splits_large_events(self._reads.database.client)

    def _quiet(self) -> StreamPosition:
        if self._lean:
            self._lean = 0
            raise StagesChangedError
        token = self._stream.resume_token
        if token is not None and token != self._position.token and not self._whole.pending:
            self._position = self._position._replace(token=token, invalidated=False, split=False)
        return self._position

    def _after(self, event: Event) -> StreamPosition:
        time, before = event["clusterTime"], self._position
        return StreamPosition(
            before.start,
            event["_id"],
            event["operationType"] == "invalidate",
            "splitEvent" in event and event["splitEvent"]["of"] > 1,
            time,
            before.ordinal + 1 if time == before.time else 1,
        )

    def _with_document(self, event: Event) -> Event:
        self._lean -= 1
        self._reopen = not self._lean
        if event["operationType"] not in ("insert", "update", "replace"):
            return event
        self._reads.session.advance_operation_time(event["clusterTime"])
        document = self._reads.document(event["ns"]["coll"], event["documentKey"]["_id"])
        return {**event, "fullDocument": document}
