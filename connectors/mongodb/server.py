"""What a MongoDB server tells of itself, and how its documents are read."""

from typing import Any

from bson import Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient

from models.errors import ConfigurationError

NO_REPLICA_SET = (
    "MONGO_DATABASE_HOST is no replica set, and change streams need one: start mongod with "
    "--replSet and run rs.initiate()"
)

# What a document holds is the document's affair: bytes that are no UTF-8 and dates beyond year
# 9999 must not stop the capture of all the others.
CODEC: "CodecOptions[dict[str, Any]]" = CodecOptions(
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    tz_aware=True,
)


def operation_time(client: "MongoClient[dict[str, Any]]") -> Timestamp:
    """The cluster time now.

    :raises ConfigurationError: the server is no replica set
    """
    time = client.admin.command("hello").get("operationTime")
    if not isinstance(time, Timestamp):
        raise ConfigurationError(NO_REPLICA_SET)
    return time


def splits_large_events(client: "MongoClient[dict[str, Any]]") -> bool:
    """Whether the server knows `$changeStreamSplitLargeEvent`: since MongoDB 6.0.9."""
    version: list[int] = client.server_info()["versionArray"]
    return version >= [6, 0, 9]
