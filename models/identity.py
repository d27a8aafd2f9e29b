"""Names of things: how a MongoDB `_id` becomes an `entry_id`, and both become point ids.

Point ids are UUIDs of version 5 (RFC 9562) over a JSON array, so no choice of strings, however
hostile, can make two different tuples read the same.
"""

import json
from typing import Any
from uuid import UUID, uuid5
from zlib import crc32

from bson import Code, ObjectId
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

_NAMESPACE = UUID("6f1d6a0e-52a5-5f0c-9c55-5d8b1c0e7a11")


def entry_id_of(mongo_id: Any) -> str:
    """The `entry_id` of a document.

    :param mongo_id: the `_id`, of any BSON type
    :returns: the string itself, the hex of an ObjectId, else canonical Extended JSON
    """
    if isinstance(mongo_id, str) and not isinstance(mongo_id, Code):  # Code is a str, too
        return mongo_id
    if isinstance(mongo_id, ObjectId):
        return str(mongo_id)
    return dumps(mongo_id, json_options=CANONICAL_JSON_OPTIONS)


def partition_of(type_: str, entry_id: str, partitions: int) -> int:
    """The queue partition, from 0 to `partitions` - 1, that carries every change of a document."""
    return crc32(f"{type_}/{entry_id}".encode("utf-8", "surrogatepass")) % partitions


def record_id(type_: str, entry_id: str) -> str:
    """Point id of a document in `cleaned_<type>` and in `tombstones`."""
    return _uuid(type_, entry_id)


def chunk_id(type_: str, entry_id: str, path: str, chunk_hash: str, occurrence: int) -> str:
    """Point id of a chunk in `vector_<type>`.

    :param occurrence: 0 for the first chunk of this text under this path, 1 for the next
    """
    return _uuid(type_, entry_id, path, chunk_hash, occurrence)


def drop_fence_id(type_: str) -> str:
    """Point id in `tombstones` of the newest drop of a whole collection."""
    return _uuid(type_)


def _uuid(*parts: str | int) -> str:
    return str(uuid5(_NAMESPACE, json.dumps(parts)))
