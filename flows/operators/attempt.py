"""`attempt`: a step whose failures are a separate stream."""

from dataclasses import dataclass

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Callable, Generic, TypeVar  # noqa: UP035

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from models import DeadLetter, Message
from models.metrics import DEAD_LETTERS

X = TypeVar("X")
Y = TypeVar("Y")


@dataclass(frozen=True)
class Attempt(Generic[Y]):
    """The two streams of an `attempt`. An `errs` that nobody reads is dropped in silence."""

    oks: Stream[Y]
    errs: Stream[DeadLetter]


@operator
def attempt(
    step_id: str,
    up: Stream[X],
    step: Callable[[X], Y],
    dead: Callable[[X, Exception], DeadLetter],
    instead: Callable[[X], Y | None] | None = None,
) -> Attempt[Y]:
    """Map each item; one whose step raises becomes a dead letter, and the others go on.

    :param step: the mapping; any `Exception` that it raises counts as the fault of the item, so it
        must not call a system that can be away
    :param dead: makes the dead letter of an item and its exception
    :param instead: makes the item that replaces a failed one, in its place; None for nothing
    :returns: `oks`, in the order of `up`, and `errs`
    """

    def attempt_batch(items: list[X]) -> list[Y | DeadLetter]:
        results: list[Y | DeadLetter] = []
        for item in items:
            try:
                results.append(step(item))
            except Exception as error:  # noqa: BLE001 (the item's own fault, whatever it is)
                results.append(dead(item, error))
                substitute = instead(item) if instead else None
                if substitute is not None:
                    results.append(substitute)
        return results

    results = op.flat_map_batch("step", up, attempt_batch)
    split = op.branch("split", results, _is_dead)
    return Attempt(oks=split.falses, errs=split.trues)  # type: ignore[arg-type]  # branch narrows no falses


def _is_dead(item: object) -> bool:
    return isinstance(item, DeadLetter)


def bury(queue: str) -> Callable[[DeadLetter], Message]:
    """The step that counts a dead letter and makes its message."""

    def step(letter: DeadLetter) -> Message:
        DEAD_LETTERS.labels(letter.stage).inc()
        return letter.to_message(queue)

    return step
