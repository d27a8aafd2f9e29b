"""Documents as they are now, read so that nothing older than a cluster time is seen."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson
from bson import ObjectId, Timestamp
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, loads
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database

from connectors.mongodb.changes import version_of
from connectors.mongodb.server import primary_of
from models import MAX_ORDINAL, CapturedChange, entry_id_of
from models.stored import Key

_PAGE = 500
_REPLACED = re.compile(r"\ufffd|\\ufffd")
"""In a text, or escaped in Extended JSON: 'a\ufffdb', '{"n": "a\\ufffdb"}'."""


class CausalReads:
    """Reads of one database that see at least what a majority held at some cluster time.

    :param database: as its primary has it
    :param session: a causally consistent one, which sends that time with each read
    """

    def __init__(self, database: "Database[dict[str, Any]]", session: ClientSession) -> None:
        self.database = database
        self.session = session

    def rows(self, name: str, last_id: tuple[Any] | None = None) -> Iterator[dict[str, Any]]:
        """Documents of a collection in the order of `_id`, across its BSON types.

        :param last_id: boxed `_id` of the last row that is not wanted again
        """
        cursor = self.database[name].find({}, session=self.session).sort("_id", 1).batch_size(_PAGE)
        if last_id is None:
            yield from cursor
            return
        # $gt sees only values of one BSON type; min() crosses them, and includes its bound.
        bound = bson.encode({"": last_id[0]})
        for row in cursor.min([("_id", last_id[0])]).hint([("_id", 1)]):
            if bson.encode({"": row["_id"]}) != bound:
                yield row

    def document(self, name: str, id_: Any) -> dict[str, Any] | None:
        """A document by its `_id`."""
        return self.database[name].find_one({"_id": {"$eq": id_}}, session=self.session)

    def estimated_count(self, name: str) -> int:
        """About how many documents a collection has."""
        return self.database[name].estimated_document_count()


@contextmanager
def causal_reads(
    client: "MongoClient[dict[str, Any]]", database: str, time: Timestamp
) -> Iterator[CausalReads]:
    """Reads that see everything up to `time`.

    Without it a delete before `time` could be missed for ever: its document still seen by a read
    that lags, and its event not wanted from a stream that begins at `time`.
    """
    with client.start_session(causal_consistency=True) as session:
        session.advance_operation_time(time)
        yield CausalReads(primary_of(client, database), session)


def estimated_documents(
    client: "MongoClient[dict[str, Any]]", database: str, collections: Iterable[str]
) -> int:
    """About how many documents `scan_documents` will find."""
    return sum(client[database][name].estimated_document_count() for name in collections)


def scan_documents(
    client: "MongoClient[dict[str, Any]]",
    database: str,
    collections: Iterable[str],
    time: Timestamp,
) -> Iterator[CapturedChange]:
    """Every document of the registered collections, as repairs of the version `time`."""
    version = version_of(time)
    with causal_reads(client, database, time) as reads:
        for name in collections:
            for row in reads.rows(name):
                yield CapturedChange("repair", name, version, row["_id"], row, ordinal=MAX_ORDINAL)


def find_again(
    client: "MongoClient[dict[str, Any]]",
    database: str,
    keys: Iterable[Key],
    time: Timestamp,
    ids: Mapping[Key, Any],
) -> Iterator[CapturedChange]:
    """Those of some documents that there are, read again after a scan at `time`: they may have come
    or gone while that ran.

    :param ids: the `_id` of those that are not `findable` by their `entry_id`
    :returns: repairs of the version `time`
    """
    version = version_of(time)
    with causal_reads(client, database, time) as reads:
        for key in keys:
            type_, entry_id = key
            for id_ in (ids[key],) if key in ids else _ids_of(entry_id):
                row = reads.document(type_, id_)
                if row is not None and entry_id_of(row["_id"]) == entry_id:
                    yield CapturedChange(
                        "repair", type_, version, row["_id"], row, ordinal=MAX_ORDINAL
                    )
                    break


def findable(id_: Any) -> bool:
    """Whether an `_id` can be told from the `entry_id` that is made of it.

    Bytes that are not UTF-8 cannot: the reader has put U+FFFD in their place.
    """
    entry_id = entry_id_of(id_)
    if _REPLACED.search(entry_id):
        return False
    if isinstance(id_, str | ObjectId):
        return True
    same = bson.encode({"": id_})
    return any(bson.encode({"": one}) == same for one in _ids_of(entry_id))


def _ids_of(entry_id: str) -> Iterator[Any]:
    """Each `_id` that has this `entry_id`, whether there is such a document or not."""
    yield entry_id
    if ObjectId.is_valid(entry_id):
        yield ObjectId(entry_id)
    try:
        id_ = loads(entry_id, json_options=CANONICAL_JSON_OPTIONS)
        bson.encode({"": id_})
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, BSONError):
        return  # it is no Extended JSON, so only a string or an ObjectId has it
    yield id_
