"""`readable`: what was read of a source, as documents ready to be written, and as failures."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import bytewax.operators as op
from bson import encode
from bson.errors import BSONError
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from models.collected import Collected, Failed, Finished, Prepared, Refused, Step
from models.documents import DOCUMENT_TYPES

LONGEST: Final = 15 * 2**20
"""Bytes of a document: MongoDB takes 16 MiB, and so does a broker, with what stands around it."""

_DEEPEST: Final = 100
"""Levels that MongoDB says it takes."""
_OF_THE_WRITER: Final = ("_id", "collected")
_LONGEST_ID: Final = 800


class Failure(NamedTuple):
    """What of a source could not be read: a document, or all of it."""

    source: str
    step: Refused | Failed


@dataclass(frozen=True)
class Readable:
    """The two streams of `readable`. An `errs` that nobody reads is dropped in silence."""

    oks: KeyedStream[Step]
    """Failures, too: what was refused is not to be deleted for not being there."""
    errs: KeyedStream[Failure]


@operator
def readable(step_id: str, up: KeyedStream[Step]) -> Readable:
    """Documents ready to be written, and what could not be read.

    :param up: what was read, by source
    :returns: `oks`, in the order of `up`, and `errs`
    """
    prepared = op.map("prepare", up, lambda item: (item[0], prepare(item[1])))
    return Readable(oks=prepared, errs=op.filter_map("failures", prepared, _failure))


def _failure(item: tuple[str, Step]) -> tuple[str, Failure] | None:
    source, step = item
    return (source, Failure(source, step)) if isinstance(step, Refused | Failed) else None


def prepare(step: Step) -> Step:
    """A document ready to be written, or refused; anything else as it is."""
    if isinstance(step, Finished):
        return _storable(step)
    if not isinstance(step, Collected):
        return step
    if step.type not in DOCUMENT_TYPES:
        return Refused(step.type, step.key, f"there is no type {step.type:.40}")
    fields = {name: value for name, value in step.fields.items() if name not in _OF_THE_WRITER}
    if _is_deep(fields):
        return Refused(step.type, step.key, f"nested more than {_DEEPEST} levels deep")
    try:
        id_ = id_of(step.key)
        encoded = encode(fields)
    except (BSONError, ValueError, OverflowError, RecursionError, TypeError) as error:
        return Refused(step.type, step.key, f"MongoDB cannot hold it: {error}")
    if len(encoded) > LONGEST:
        return Refused(step.type, step.key, f"larger than {LONGEST // 2**20} MiB")
    # Some sources say at each visit that everything was updated just now.
    hashed = encode({name: value for name, value in fields.items() if name != "updated_at"})
    return Prepared(step.type, id_, fields, hashlib.sha256(hashed).hexdigest()[:32])


def _is_deep(fields: Mapping[str, Any]) -> bool:
    """Whether MongoDB would refuse it, and with it the whole command that it is part of."""
    level: list[Any] = [fields]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(inner, Mapping | list | tuple)
        ]
    return bool(level)


def _storable(finished: Finished) -> Finished | Failed:
    try:
        size = len(encode({"": [*finished.state.items()]}))
    except (BSONError, ValueError) as error:
        return Failed(f"its state cannot be stored: {error}")
    if size > LONGEST:
        return Failed(
            f"its state is larger than {LONGEST // 2**20} MiB: read less with this source"
        )
    return finished


def id_of(key: str) -> str:
    """The `_id` of what a key identifies: the key, or its beginning and a hash if it is long.

    :raises ValueError: it is empty, or no text
    """
    encoded = key.encode()
    if not encoded or "\0" in key:
        raise ValueError("nothing identifies it")
    if len(encoded) <= _LONGEST_ID:
        return key
    beginning = encoded[: _LONGEST_ID - 65].decode("utf-8", "ignore")
    return f"{beginning}#{hashlib.sha256(encoded).hexdigest()}"
