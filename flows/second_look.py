"""A second look at documents that seemed to differ: at them only, until they stand still."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

from flows.operators.judge import Expect, Finding, Sides, gather, judge
from flows.operators.tally import weight_of_sides
from models import CapturedChange
from models.fresh import Payload
from models.stored import Key

SETTLE_S: Final = 1.0
"""Time for a change that is on its way to arrive."""
LOOKS: Final = 10
"""A document that is changed between any two looks, so often, is judged as it is."""
_AT_ONCE: Final = 64

X = TypeVar("X")
Documents = Callable[[Collection[Key]], Iterable[CapturedChange]]
"""The documents of these keys, as far as there are any, as they are now."""
Points = Callable[[Collection[Key]], Iterable[tuple[Key, str, str, Payload]]]
"""The stored points of these documents, as they are now."""


class SecondLook:
    """Judges documents by reading both sides of them again.

    Both sides are read while others write, so a document can differ only because its change is on
    its way. One that differs as it did before is wrong; one that differs otherwise is looked at
    again.

    :param expect: the points that a document should have; raises for one that cannot be used
    """

    def __init__(self, documents: Documents, points: Points, expect: Expect) -> None:
        self._documents = documents
        self._points = points
        self._expect = expect

    def __call__(self, differing: Iterable[tuple[Key, int]]) -> Iterator[Finding]:
        """What is wrong with documents that differed.

        :param differing: each with the way in which it did, as a tally says it
        """
        for look in range(LOOKS):
            time.sleep(SETTLE_S)
            moving: dict[Key, int] = {}
            for some in _batches(differing):
                before = dict(some)
                for key, sides in self._sides(before):
                    weight = weight_of_sides(key, sides)
                    if weight and weight != before[key] and look < LOOKS - 1:
                        moving[key] = weight
                    elif finding := judge(key, sides):
                        yield finding
            if not moving:
                return
            differing = moving.items()

    def still_wrong(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the documents that differ now, for whatever reason."""
        return {
            key
            for some in _batches(keys)
            for key, sides in self._sides(some)
            if weight_of_sides(key, sides)
        }

    def _sides(self, keys: Iterable[Key]) -> Iterable[tuple[Key, Sides]]:
        """Both sides of some documents, as they are now."""
        both = {key: Sides() for key in keys}
        # The store first: of a change that arrives in between only one side is seen either way,
        # and points of nobody would be looked at in vain.
        for key, kind, id_, payload in self._points(both):
            if key in both:  # a point may name several documents, or another by now
                gather(both[key], (kind, id_, payload))
        for document in self._documents(both):
            with suppress(Exception):  # the document's own fault: it goes to the dead letters
                key, expected = self._expect(document)
                gather(both[key], expected)
        return both.items()


def _batches(items: Iterable[X]) -> Iterator[list[X]]:
    left = iter(items)
    while some := list(islice(left, _AT_ONCE)):
        yield some
