"""`publish`: messages into a sink, keyed by their queue."""

from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.outputs import Sink

from models import Message


@operator
def publish(step_id: str, up: Stream[Message], sink: Sink[Any]) -> None:
    """End a stream of messages in a sink.

    :param sink: takes (queue, message) pairs
    """
    op.output("broker", op.key_on("by_queue", up, lambda message: message.queue), sink)
