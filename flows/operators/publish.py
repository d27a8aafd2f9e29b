"""`publish`: messages to a publisher, on the worker that made them."""

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Any, Callable, Union  # noqa: UP035

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.outputs import FixedPartitionedSink, Sink, StatefulSinkPartition

from models import Message

Submit = Callable[[list[Message]], None]
"""Takes messages and returns at once; who made them asks later whether they are confirmed."""

Messages = Union[Submit, Sink[Any]]  # noqa: UP007 (as above)
"""Where messages go: to a publisher, or in a test to a sink, which takes (queue, message) pairs."""


@operator
def publish(step_id: str, up: Stream[Message], to: Messages) -> None:
    """Hand messages to the publisher of this process, and end the dataflow after that.

    A sink could be in another process of a Bytewax cluster than the source that has to know what
    is confirmed. When an epoch is closed, its messages have been handed over here, with and
    without a recovery directory, since the empty sink after it is a partitioned one.

    :param to: takes each batch
    """
    if isinstance(to, Sink):
        op.output("sink", op.key_on("by_queue", up, lambda message: message.queue), to)
        return
    submit = to

    def hand_over(messages: list[Message]) -> list[Any]:
        submit(messages)
        return []

    nothing = op.key_on("key", op.flat_map_batch("submit", up, hand_over), str)
    op.output("submitted", nothing, _End())


class _End(FixedPartitionedSink[Any, None]):
    """Where a dataflow ends: nothing arrives here, and an epoch is closed when that is certain."""

    def list_parts(self) -> list[str]:
        return ["end"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_EndPartition":
        return _EndPartition()


class _EndPartition(StatefulSinkPartition[Any, None]):
    def write_batch(self, values: list[Any]) -> None:
        """Nothing arrives."""

    def snapshot(self) -> None:
        """Nothing is kept."""
