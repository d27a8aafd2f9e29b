"""The history that change streams read: which tokens are good, how far it reaches, how large."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson import Timestamp

from tests.mongodb_proxy.wire import CODEC, Ask, Document, Message, failure

_WRITES = frozenset({"insert", "update", "delete", "findAndModify", "commitTransaction"})
_LABEL = ("NonResumableChangeStreamError",)


@dataclass
class _Cursor:
    stages: list[Document]
    seen: Timestamp


class History:
    """Refusals of a real server to streams.

    - A stream that resumes must return the event of its token, else it ends with 280:
      `docs/change_streams.md`, "Resume Tokens" (tokens are not portable between pipelines), and
      `src/mongo/db/pipeline/document_source_change_stream_ensure_resume_token_present.cpp`, with
      which a `$match` swaps places. A token between the parts of an event needs the stage that
      splits, `src/mongo/db/pipeline/pipeline.cpp`, also 280.
    - A stream whose position has left the oplog ends with 286, at its start or later: manual,
      "Change Streams", "Resume a Change Stream"; `src/mongo/base/error_codes.yml`.
    - An event over 16 MB that is not split ends it with 10334: `docs/change_streams.md`, "Large
      Events". Before 6.0.9 no stage can split: manual, "$changeStreamSplitLargeEvent".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, Document] = {}
        self._cursors: dict[int, _Cursor] = {}
        self._writes: list[tuple[float, Timestamp]] = []
        self._floor = Timestamp(0, 0)
        self.window_s = float("inf")
        """How long a write stays in the history."""
        self.max_event_bytes = 1 << 62
        """How large an event may be."""
        self.splits = True
        """Whether this is MongoDB 6.0.9 or later."""
        self.refused: list[int] = []
        """Codes of what was refused."""

    def prune(self, before: Timestamp) -> None:
        """Forget everything before a cluster time."""
        with self._lock:
            self._floor = max(self._floor, before)

    def __call__(self, request: Message, ask: Ask) -> Message:
        """See `Behaviour`."""
        body = request.body
        assert body is not None
        if request.command.lower() == "buildinfo" and not self.splits:
            reply = ask(request)
            old = {"version": "6.0.8", "versionArray": [6, 0, 8, 0]}
            return Message.reply(request, {**(reply.body or {}), **old})
        if request.command in _WRITES:
            return self._noted(ask(request))
        stages = body.get("pipeline") or [{}]
        if request.command == "aggregate" and "$changeStream" in stages[0]:
            refusal = self._refuses(stages)
            return self._refused(request, refusal) or self._opened(request, stages, ask(request))
        if request.command == "getMore" and body["getMore"] in self._cursors:
            refusal = self._fell_behind(self._cursors[body["getMore"]])
            return self._refused(request, refusal) or self._read(
                request, self._cursors[body["getMore"]], ask(request)
            )
        return ask(request)

    def _noted(self, reply: Message) -> Message:
        when = (reply.body or {}).get("operationTime")
        if isinstance(when, Timestamp):
            with self._lock:
                self._writes.append((time.monotonic(), when))
                old = time.monotonic() - self.window_s
                while self._writes and self._writes[0][0] < old:
                    self._floor = max(self._floor, self._writes.pop(0)[1])
        return reply

    def _refuses(self, stages: list[Document]) -> Document | None:
        spec = stages[0]["$changeStream"]
        if not self.splits and any("$changeStreamSplitLargeEvent" in stage for stage in stages):
            return failure(40324, "Location40324", "Unrecognized pipeline stage name")
        token = spec.get("resumeAfter") or spec.get("startAfter")
        start = spec.get("startAtOperationTime") if token is None else _time_of(token)
        if start is not None and start < self._floor:
            return _lost()
        event = self._events.get((token or {}).get("_data", ""))
        if event is None:
            return None
        if event.get("splitEvent", {}).get("of", 1) > 1 and not any(
            "$changeStreamSplitLargeEvent" in stage for stage in stages
        ):
            return _fatal("To resume from a split event, the $changeStream pipeline must split")
        if not all(_passes(stage["$match"], event) for stage in stages if "$match" in stage):
            return _fatal("cannot resume stream; the resume token was not found.")
        return None

    def _fell_behind(self, cursor: _Cursor) -> Document | None:
        return _lost() if cursor.seen < self._floor else None

    def _refused(self, request: Message, refusal: Document | None) -> Message | None:
        if refusal is None:
            return None
        self.refused.append(refusal["code"])
        return Message.reply(request, refusal)

    def _opened(self, request: Message, stages: list[Document], reply: Message) -> Message:
        assert reply.body is not None
        if not reply.body.get("ok"):
            return reply
        cursor = _Cursor(stages, Timestamp(0, 0))
        self._cursors[reply.body["cursor"]["id"]] = cursor
        return self._read(request, cursor, reply)

    def _read(self, request: Message, cursor: _Cursor, reply: Message) -> Message:
        body = reply.body or {}
        if not body.get("ok"):
            return reply
        found = body["cursor"]
        for event in found.get("firstBatch", found.get("nextBatch", [])):
            if len(bson.encode(event, codec_options=CODEC)) > self.max_event_bytes:
                said = "BSONObj size is invalid. Size must be between 0 and 16793600(16MB)"
                refusal = failure(10334, "BSONObjectTooLarge", said, _LABEL)
                return self._refused(request, refusal) or reply
            kept = ("ns", "to", "operationType", "splitEvent")
            self._events[event["_id"]["_data"]] = {k: event[k] for k in kept if k in event}
        cursor.seen = max(cursor.seen, _time_of(found["postBatchResumeToken"]))
        return reply


def _time_of(token: Mapping[str, Any]) -> Timestamp:
    """The cluster time in a token of SecantusDB."""
    try:
        time_ = bson.decode(bytes.fromhex(token["_data"]), CODEC)["t"]
    except (ValueError, KeyError, bson.errors.BSONError):
        return Timestamp(2**32 - 1, 0)  # the server says what is wrong with it
    return time_ if isinstance(time_, Timestamp) else Timestamp(2**32 - 1, 0)


def _passes(match: Mapping[str, Any], event: Document) -> bool:
    """The part of the query language that our pipelines use."""
    return all(
        any(_passes(one, event) for one in wanted)
        if path == "$or"
        else _value(path, event) in (wanted["$in"] if isinstance(wanted, dict) else [wanted])
        for path, wanted in match.items()
    )


def _value(path: str, event: Any) -> Any:
    for name in path.split("."):
        event = event.get(name) if isinstance(event, dict) else None
    return event


def _fatal(said: str) -> Document:
    return failure(280, "ChangeStreamFatalError", said, _LABEL)


def _lost() -> Document:
    said = "Resume of change stream was not possible, as the resume point may no longer be in the"
    return failure(286, "ChangeStreamHistoryLost", f"{said} oplog.", _LABEL)
