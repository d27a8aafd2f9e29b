"""How much memory a document takes."""

from collections.abc import Mapping
from datetime import datetime
from gc import get_referents
from sys import getsizeof
from typing import Any, Final

from bson import Int64, ObjectId

_COLLECTED: Final = 16
"""Bytes that the garbage collector puts before a container."""
_TWELVE_BYTES: Final = getsizeof(bytes(12)) + _COLLECTED
"""Bytes within an ObjectId."""
_LEAVES: Final = frozenset({str, bytes, int, float, bool, type(None), Int64, datetime})


def size_of(document: Mapping[str, Any]) -> int:
    """The bytes of memory that a decoded document takes, about: a value that Python shares, such as
    a small number, counts wherever it stands.

    Bytes on the wire would not do: an empty field takes ten times, a nesting of single fields
    twenty times as much in memory.
    """
    total = 0
    pending: list[Any] = [document]
    for value in pending:  # grows meanwhile
        total += getsizeof(value)
        kind = type(value)
        if kind in _LEAVES:
            continue
        if kind is dict:
            total += _COLLECTED + sum(map(getsizeof, value))
            pending += value.values()
        elif kind is list:
            total += _COLLECTED
            pending += value
        elif kind is ObjectId:
            total += _TWELVE_BYTES
        else:  # a type of the driver that holds others
            total += _COLLECTED
            pending += (inside for inside in get_referents(value) if inside is not kind)
    return total
