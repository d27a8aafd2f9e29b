"""Points and requests of Qdrant: their form, and their bounds."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from qdrant_client import models as q

from models.errors import ContentRefusedError
from models.version import NEVER, Version

MAX_POINTS = 128
"""Points in one request."""
MAX_BYTES = 8 * 2**20
"""Estimated size of one request; a larger point goes alone."""
MAX_POINT_BYTES = 30 * 2**20
"""A server's default request limit is 32 MiB: what is larger can never be stored."""

T = TypeVar("T")


def bounded(
    items: Iterable[T],
    size: Callable[[T], int],
    max_count: int = MAX_POINTS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[list[T]]:
    """Cut `items` into lists of at most `max_count` items and, where no single item is larger,
    `max_bytes` in sum of `size(item)`.
    """
    some: list[T] = []
    total = 0
    for item in items:
        bytes_ = size(item)
        if some and (len(some) == max_count or total + bytes_ > max_bytes):
            yield some
            some, total = [], 0
        some.append(item)
        total += bytes_
    if some:
        yield some


def size_of_point(point: q.PointStruct) -> int:
    """Estimated bytes of a point in a request.

    :raises ContentRefusedError: no server would take it
    """
    size = 200 + sum(map(_size, (point.payload or {}).values())) + size_of_vectors(point)
    if size > MAX_POINT_BYTES:
        raise ContentRefusedError(
            f"a point of {size:,} bytes is larger than a Qdrant server takes "
            f"({MAX_POINT_BYTES:,} bytes)"
        )
    return size


def size_of_vectors(point: q.PointStruct | q.PointVectors) -> int:
    """Estimated bytes of the vectors of a point in a request."""
    vectors = point.vector.values() if isinstance(point.vector, dict) else ()
    return sum(
        8 * len(vector.indices) if isinstance(vector, q.SparseVector) else 4 * len(vector)
        for vector in vectors
        if isinstance(vector, list | np.ndarray | q.SparseVector)
    )


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return 40 * len(value) if isinstance(value, list) else 16


def set_payload(payload: Mapping[str, Any], ids: Sequence[str]) -> q.SetPayloadOperation:
    """The operation that sets these fields of these points, and leaves their vectors alone."""
    return q.SetPayloadOperation(set_payload=q.SetPayload(payload=dict(payload), points=list(ids)))


def tombstone(id_: str, type_: str, entry_id: str, version: Version) -> q.PointStruct:
    """The point that says up to which version a document, or a collection, is gone."""
    payload = {
        "type": type_,
        "entry_id": entry_id,
        **version.fields(),
        "deleted_at": time.time(),
    }
    return q.PointStruct(id=id_, vector={}, payload=payload)


def version_in(payload: Mapping[str, Any] | None) -> Version:
    """The version that a payload holds; without one that can be read, every change is newer."""
    try:
        return Version.read(payload or {})
    except ValueError:
        return NEVER
