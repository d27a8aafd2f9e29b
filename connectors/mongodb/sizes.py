"""How much memory a document takes."""

from collections.abc import Iterable, Mapping
from typing import Any


def size_of(document: Mapping[str, Any]) -> int:
    """A cheap estimate of a document's bytes, good enough to bound a buffer."""
    total = 64
    nested: list[Iterable[Any]] = [document.values()]
    while nested:
        for value in nested.pop():
            if isinstance(value, str | bytes):
                total += len(value)
            elif isinstance(value, dict):  # what the driver decodes to; Mapping is slow to ask
                total += 64
                nested.append(value.values())
            elif isinstance(value, list):
                total += 16 * len(value)
                nested.append(value)
    return total
