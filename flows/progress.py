"""Progress of a comparison, in a log line every few seconds."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

EVERY_S: Final = 5.0

X = TypeVar("X")

log = logging.getLogger("flows")


class Progress:
    """Counts what comes by, and estimates when all of it will have come.

    :param documents: about how many there are
    :param points: the same
    """

    def __init__(
        self, documents: int, points: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = documents, points
        self._clock = clock
        self._began = self._said = clock()
        self._done = [0, 0]

    def documents(self, items: Iterable[X]) -> Iterator[X]:
        """The same documents, counted."""
        return self._counted(items, 0)

    def points(self, items: Iterable[X]) -> Iterator[X]:
        """The same points, counted."""
        return self._counted(items, 1)

    def _counted(self, items: Iterable[X], side: int) -> Iterator[X]:
        for item in items:
            self._done[side] += 1
            if self._clock() - self._said > EVERY_S:
                self._said = self._clock()
                log.info(self.line())
            yield item

    def line(self) -> str:
        """How far it is."""
        (documents, points), (all_documents, all_points) = self._done, self._expected
        spent = self._clock() - self._began
        # The side that lags is the one that is waited for.
        share = min(
            done / max(done, all_, 1) if all_ else 1.0
            for done, all_ in zip(self._done, self._expected, strict=True)
        )
        left = f", about {spent / share - spent:,.0f} s left" if share else ""
        return (
            f"compared {documents:,} of about {all_documents:,} documents and {points:,} of about "
            f"{all_points:,} points{left}"
        )
