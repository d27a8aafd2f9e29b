"""Facts that a MongoDB server tells of itself, and how its documents are read."""

import re
from typing import Any, Final, NamedTuple

from bson import Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from dns.exception import DNSException
from pymongo import MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from pymongo.errors import ConfigurationError as MongoConfigurationError
from pymongo.read_concern import ReadConcern

from models.errors import ConfigurationError

NO_REPLICA_SET = (
    "MONGO_DATABASE_HOST is no replica set, and change streams need one: start mongod with "
    "--replSet and run rs.initiate()"
)
_NOT_A_REPLICA_SET = 40573
_ROUTER = "isdbgrid"
_ADDED: Final = re.compile(r" \(configured timeouts: |, Timeout: |, full error: ")
"""After it the driver adds its settings and all that it knows of the servers, or the whole reply:
'host:27017: timed out (configured timeouts: … ), Timeout: 5.0s, Topology Description: …'."""

# The content of a document is its own affair: bytes that are not UTF-8 and dates after the year
# 9999 must not stop the capture of all the others.
CODEC: "CodecOptions[dict[str, Any]]" = CodecOptions(
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    tz_aware=True,
)


def reason_of(error: BaseException) -> str:
    """The reason that an error of the driver gives, on one line."""
    text = " ".join(_ADDED.split(str(error))[0].split())
    return text[:200] or type(error).__name__


class ClusterTime(NamedTuple):
    """The time of a cluster, as the server tells it."""

    committed: Timestamp
    """A majority holds everything up to here."""
    known: Timestamp
    """The newest that whoever answered has heard of: a router may lag, its shards do not."""


def primary_of(client: "MongoClient[dict[str, Any]]", database: str) -> "Database[dict[str, Any]]":
    """A database as its primary has it, whatever the URI prefers, and as a majority holds it."""
    return client.get_database(
        database,
        codec_options=CODEC,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
    )


def cluster_time(
    client: "MongoClient[dict[str, Any]]", database: str, collection: str
) -> ClusterTime:
    """The cluster time now, by a read of what is to be captured: who answers `hello` may be a
    router, which has a clock of its own, and its operation time need not be committed.

    :raises ConfigurationError: the server is no replica set
    :raises AutoReconnect: it has just started
    """
    with client.start_session(causal_consistency=True) as session:
        primary_of(client, database)[collection].find_one({}, {"_id": 1}, session=session)
        committed, known = session.operation_time, session.cluster_time
    if committed is None or known is None:
        hello = client.admin.command("hello")
        if "setName" in hello or hello.get("msg") == _ROUTER:
            raise AutoReconnect("the server does not know the time of its cluster yet")
        raise ConfigurationError(NO_REPLICA_SET)
    return ClusterTime(committed, known["clusterTime"])


def splits_large_events(client: "MongoClient[dict[str, Any]]") -> bool:
    """Whether the server knows `$changeStreamSplitLargeEvent`: since MongoDB 6.0.9."""
    version: list[int] = client.server_info()["versionArray"]
    return version >= [6, 0, 9]


def is_away(error: BaseException) -> bool:
    """Whether what the driver raised may pass by itself.

    A name server that does not answer, or not yet, is an absence, though the driver calls it a
    wrong configuration.

    :raises ConfigurationError: it will not, and a person has to mend it
    """
    if isinstance(error, OperationFailure) and error.code == _NOT_A_REPLICA_SET:
        raise ConfigurationError(NO_REPLICA_SET) from error
    if isinstance(error, MongoConfigurationError):
        if not isinstance(error.__cause__, DNSException | OSError):
            raise ConfigurationError(f"MONGO_DATABASE_HOST: {error}") from error
        return True
    return isinstance(error, PyMongoError)
