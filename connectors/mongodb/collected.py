"""Documents that were collected, and how far the reading of each source has come."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import Any, Final

from pymongo import InsertOne, MongoClient, ReadPreference, ReplaceOne, ReturnDocument
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from connectors.mongodb.server import is_away, reason_of
from connectors.patience import Absence, Patience
from models.collected import Fate, Prepared, Run
from models.errors import SourceError

MARK: Final = "collected"
"""The field by which a document is known as one that was collected."""

_WRITE_TIMEOUT_MS: Final = 10_000
_LOOKS: Final = 3
_DELETED_AT_A_TIME: Final = 500
_DURABLE: Final = WriteConcern("majority", wtimeout=_WRITE_TIMEOUT_MS)
_DUPLICATE: Final = 11000
_PASSING: Final = frozenset({50, 91, 112, 189, 11600, 11602, 10107, 13435, 13436, 14031})
"""Of a single write: out of time or of room, shutting down, no longer the primary, in conflict."""


class CollectedStore:
    """Writes what was collected, and nothing twice.

    Each reading of a source is a run with a number. A document, or a state, that a later run has
    written is left alone by an earlier one, so that of two collectors the one that began last wins.
    Every other call than `begin` waits while MongoDB is away.

    :param client: of the cluster
    :param database: where the documents belong
    :param states: the database where the state of each source is kept
    :param types: the collections
    """

    def __init__(
        self, client: "MongoClient[Any]", database: str, states: str, types: Sequence[str]
    ) -> None:
        self._client = client
        self._database = client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("local"),
            write_concern=_DURABLE,
        )
        self._states: MongoCollection[Any] = client[states].get_collection(
            MARK, read_preference=ReadPreference.PRIMARY, write_concern=_DURABLE
        )
        self._types = types
        self._name = database
        self._patience = Patience(
            "MongoDB", is_away, explain=lambda error: Absence(reason_of(error))
        )

    def begin(self, source: str, mark: str) -> Run:
        """Begin a run; it knows the state of the last one with the same mark.

        :raises SourceError: MongoDB is away; nothing is lost by beginning later
        """
        try:
            document = self._next(source)
        except PyMongoError as error:
            if not is_away(error):
                raise
            raise SourceError(f"MongoDB is away: {reason_of(error)}") from error
        fits = document.get("mark") == mark
        succeeded: datetime | None = document.get("succeeded_at")
        return Run(
            source,
            document["run"],
            mark,
            dict(document.get("state", ())) if fits else {},
            succeeded.replace(tzinfo=timezone.utc).timestamp() if succeeded else 0.0,
        )

    def _next(self, source: str) -> Any:
        """The state of a source, with the number of its next run.

        Numbers begin at the time in milliseconds: a source whose state was lost, as with the
        database of checkpoints, has higher ones than the documents that it wrote before.
        """
        mine = {"_id": self._id(source)}
        while True:
            document: Any = self._states.find_one_and_update(
                mine, {"$inc": {"run": 1}}, return_document=ReturnDocument.AFTER
            )
            if document is not None:
                return document
            with suppress(DuplicateKeyError):  # another collector was as quick
                self._states.update_one(
                    mine, {"$max": {"run": int(time.time() * 1000)}}, upsert=True
                )

    def is_newest(self, run: Run) -> bool:
        """Whether no other run of the source has begun since."""
        mine = {"_id": self._id(run.source), "run": run.number}
        return self._patience.call(lambda: self._states.find_one(mine, {"_id": 1})) is not None

    def finish(self, run: Run, state: Mapping[str, str]) -> bool:
        """Store the state that the next run is to know; False if a later run has begun.

        To be called when every document before it is written.
        """
        fields = {
            "mark": run.mark,
            "state": [[key, value] for key, value in state.items()],
            "succeeded_at": datetime.now(timezone.utc),
        }
        mine = {"_id": self._id(run.source), "run": run.number}
        return bool(
            self._patience.call(
                lambda: self._states.update_one(mine, {"$set": fields}).matched_count
            )
        )

    def write(
        self, run: Run, formerly: Collection[str], documents: Sequence[Prepared]
    ) -> list[Fate]:
        """Write those that differ from what is stored; the fate of each, in their order.

        :param documents: no two with the same type and id
        """
        fates: dict[tuple[str, str], Fate] = {}
        for type_ in dict.fromkeys(one.type for one in documents):
            of_type = {one.id: one for one in documents if one.type == type_}
            found = self._patience.call(partial(self._write, type_, run, formerly, of_type))
            fates |= {(type_, id_): fate for id_, fate in found.items()}
        return [fates[one.type, one.id] for one in documents]

    def look(
        self, run: Run, formerly: Collection[str], type_: str, ids: Sequence[str]
    ) -> list[Fate]:
        """What has become of documents that an earlier run has written."""
        stored = self._patience.call(lambda: self._marks(type_, ids))
        return [_standing(stored, id_, {run.source, *formerly}) for id_ in ids]

    def prune(self, run: Run, formerly: Collection[str], seen: Callable[[str, str], bool]) -> int:
        """Delete what the source has made and does not list any more; how many.

        :param seen: whether it lists a document, by type and id
        """
        return sum(
            self._patience.call(partial(self._prune, type_, run, formerly, seen))
            for type_ in self._types
        )

    def _id(self, source: str) -> str:
        return f"{self._name}/{source}"

    def _marks(self, type_: str, ids: Iterable[str]) -> dict[str, Any]:
        """The mark of each of some documents that there are; None without one."""
        found = self._database[type_].find({"_id": {"$in": list(ids)}}, {MARK: 1})
        return {one["_id"]: one.get(MARK) for one in found}

    def _write(
        self, type_: str, run: Run, formerly: Collection[str], documents: Mapping[str, Prepared]
    ) -> dict[str, Fate]:
        fates: dict[str, Fate] = {}
        left = dict(documents)
        for _ in range(_LOOKS):
            writes = {}
            stored = self._marks(type_, left)
            for id_, document in left.items():
                fate, write = _plan(run, {run.source, *formerly}, stored, document)
                fates[id_] = fate
                if write is not None:
                    writes[id_] = write
            left, refused = self._apply(type_, writes, left)
            fates |= refused
            if not left:
                return fates
        return fates | dict.fromkeys(left, Fate("refused", "somebody else keeps changing it"))

    def _apply(
        self, type_: str, writes: Mapping[str, Any], documents: Mapping[str, Prepared]
    ) -> tuple[dict[str, Prepared], dict[str, Fate]]:
        """Write; those that have to be looked at again, and those that the server refuses."""
        if not writes:
            return {}, {}
        refused: dict[str, Fate] = {}
        ids = list(writes)
        try:
            done = self._database[type_].bulk_write(list(writes.values()), ordered=False)
            if done.inserted_count + done.matched_count == len(writes):
                return {}, {}
        except BulkWriteError as error:
            problems = error.details.get("writeErrors", ())
            codes = {problem.get("code") for problem in problems}
            if error.details.get("writeConcernErrors") or codes & _PASSING:
                raise
            for problem in problems:
                if problem.get("code") != _DUPLICATE:
                    reason = " ".join(str(problem.get("errmsg")).split())[:200]
                    refused[ids[problem["index"]]] = Fate(
                        "refused", f"MongoDB refuses it: {reason}"
                    )
        return {id_: documents[id_] for id_ in ids if id_ not in refused}, refused

    def _prune(
        self,
        type_: str,
        run: Run,
        formerly: Collection[str],
        seen: Callable[[str, str], bool],
    ) -> int:
        collection = self._database[type_]
        # the runs of another source have numbers of their own
        own = {
            "$or": [
                {f"{MARK}.source": run.source, f"{MARK}.run": {"$lte": run.number}},
                {f"{MARK}.source": {"$in": list(formerly)}},
            ]
        }
        with suppress(OperationFailure):  # it only saves time, and may not be allowed
            collection.create_index(f"{MARK}.source", sparse=True)
        stored = (one["_id"] for one in collection.find(own, {"_id": 1}))
        gone = (id_ for id_ in stored if not seen(type_, id_))
        deleted = 0
        while some := list(islice(gone, _DELETED_AT_A_TIME)):
            deleted += collection.delete_many({"_id": {"$in": some}, **own}).deleted_count
        return deleted


def _plan(
    run: Run, own: Collection[str], stored: Mapping[str, Any], document: Prepared
) -> tuple[Fate, Any]:
    """What comes of a document, and the write that it takes, if any.

    A write that finds something other than what was looked at does nothing.
    """
    fate = _standing(stored, document.id, own)
    found: Any = stored.get(document.id)
    now = datetime.now(timezone.utc)
    mark = {"source": run.source, "run": run.number, "hash": document.hash, "at": now}
    body = {"_id": document.id, **document.fields, MARK: mark}
    if fate.outcome == "missing":
        return Fate("written"), InsertOne(body)
    if fate.outcome != "unchanged":
        return fate, None
    if found["source"] == run.source and found["run"] > run.number:
        return fate, None
    if (found["source"], found["hash"]) == (run.source, document.hash):
        # a document of this very run was written in an earlier try
        return Fate("written" if found["run"] == run.number else "unchanged"), None
    return Fate("written"), ReplaceOne({"_id": document.id, MARK: found}, body)


def _standing(stored: Mapping[str, Any], id_: str, own: Collection[str]) -> Fate:
    """Whose a document is; `unchanged` for our own."""
    if id_ not in stored:
        return Fate("missing")
    mark = stored[id_]
    if not isinstance(mark, Mapping) or not {"source", "run", "hash"} <= mark.keys():
        return Fate("clash", "a document that was not collected has its _id: it is left alone")
    return Fate("unchanged" if mark["source"] in own else "elsewhere")
