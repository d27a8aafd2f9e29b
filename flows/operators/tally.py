"""Which documents differ, kept small: one number for each, over all its points on both sides."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from flows.operators.judge import Expected, Sides, digest
from models.fresh import Payload
from models.identity import record_id
from models.stored import Key

_BYTES: Final = 8
_MASK: Final = 2 ** (8 * _BYTES) - 1


class Weighed(NamedTuple):
    """Part of a document, as a number that is added for what should be stored, and subtracted for
    what is.
    """

    entry_id: str
    weight: int


def weigh_expected(key: Key, expected: Expected) -> tuple[str, Weighed]:
    """All points of a fresh sync, after the document's type."""
    return key.type, Weighed(key.entry_id, _weight_of(key, expected.record, expected.chunks))


def weigh_stored(key: Key, kind: str, id_: str, payload: Payload) -> tuple[str, Weighed]:
    """One stored point, after the type of its document; see `connectors.qdrant.ScannedPoint`."""
    return key.type, Weighed(key.entry_id, -_weight(kind, id_, digest(payload)))


def weight_of_sides(key: Key, sides: Sides) -> int:
    """What a tally says of a document whose sides are known; 0 where they are equal."""
    want = sides.expected
    wanted = _weight_of(key, want.record, want.chunks) if want else 0
    return wanted - _weight_of(key, sides.record, sides.chunks) & _MASK


class Tally:
    """Adds up weights by document. Points may come in any order, so neither side is held.

    A document costs its `entry_id`, one number and a place in a dictionary, and nothing any more
    once its sides are equal. That unequal sides have equal sums happens once in 2^64 documents.
    """

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, item: Weighed) -> "Tally":
        """Add a part of a document; this tally."""
        total = self._sums.get(item.entry_id, 0) + item.weight & _MASK
        if total:
            self._sums[item.entry_id] = total
        else:
            self._sums.pop(item.entry_id, None)
        return self

    def differing(self) -> Mapping[str, int]:
        """The sum of each document whose sides are not equal, by `entry_id`."""
        return self._sums


def _weight_of(key: Key, record: bytes | None, chunks: Mapping[str, bytes]) -> int:
    weights = [_weight("chunk", id_, content) for id_, content in chunks.items()]
    if record is not None:
        weights.append(_weight("record", record_id(*key), record))
    return sum(weights)


def _weight(kind: str, id_: str, content: bytes) -> int:
    named = f"{kind} {id_} ".encode()
    return int.from_bytes(blake2b(named + content, digest_size=_BYTES).digest(), "big")
