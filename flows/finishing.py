"""The end of a dataflow: what its sources still hold is given up once it is confirmed."""

import time
from collections.abc import Callable
from typing import Protocol

_LOOK_AGAIN_S = 0.02


class Finishing(Protocol):
    """A source that gives up what it holds only after what was made of it is confirmed."""

    def finish(self) -> bool:
        """Acknowledge or store what is confirmed by now; whether nothing is left."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


def finishing(*sources: Finishing) -> Callable[[], None]:
    """The `finish` of a dataflow: waits until each of its sources has given up all that it handed
    on. Under an alarm of the broker that may take longer than the process has left: what was
    confirmed is given up by then, and the rest comes again.
    """

    def finish() -> None:
        left = list(sources)
        while left := [source for source in left if not source.finish()]:
            time.sleep(_LOOK_AGAIN_S)
        in_turn(*(source.close for source in sources))()

    return finish


def in_turn(*functions: Callable[[], None]) -> Callable[[], None]:
    """Call all of them, one after the other."""

    def call() -> None:
        for function in functions:
            function()

    return call
