"""A bounded source over what an iterable yields."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

X = TypeVar("X")


class ScanSource(FixedPartitionedSource[X, None]):
    """Everything that an iterable yields, once.

    Parallelism: none. Delivery: each item once. After a resume: everything again.

    :param scan: begins a scan; it may block, since a bounded flow has nothing else to do
    """

    def __init__(self, scan: Callable[[], Iterable[X]], batch_size: int = 50) -> None:
        self._scan = scan
        self._batch_size = batch_size

    def list_parts(self) -> list[str]:
        """One scan."""
        return ["scan"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[X, None]:
        """Begin the scan."""
        return _ScanPartition(iter(self._scan()), self._batch_size)


class _ScanPartition(StatefulSourcePartition[X, None]):
    def __init__(self, items: Iterator[X], batch_size: int) -> None:
        self._items = items
        self._batch_size = batch_size

    def next_batch(self) -> list[X]:
        batch = list(islice(self._items, self._batch_size))
        if not batch:
            raise StopIteration
        return batch

    def snapshot(self) -> None:
        return None
