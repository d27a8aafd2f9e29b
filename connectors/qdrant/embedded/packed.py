"""The bytes of a dense vector in a message: little-endian float32, one after the other."""

from functools import lru_cache
from typing import Any

from qdrant_client import grpc


@lru_cache
def head(count: int) -> bytes:
    """What stands before so many packed numbers: the number of their field, and their length."""
    written: bytes = grpc.DenseVector(data=[0.0] * count).SerializeToString()
    return written[: len(written) - 4 * count]


def packed_numbers(message: Any) -> bytes | None:
    """The numbers of a `DenseVector`; None where there is more in it."""
    count = len(message.data)
    before, written = head(count), message.SerializeToString()
    if written.startswith(before) and len(written) == len(before) + 4 * count:
        numbers: bytes = written[len(before) :]
        return numbers
    return None
