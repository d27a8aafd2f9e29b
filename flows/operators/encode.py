"""The pure steps of the capture side: a change becomes a message for the queue of its document."""

from collections.abc import Callable, Sequence

from models import CapturedChange, ChangeEvent, DeadLetter, Message, Version, entry_id_of
from models.dead_letters import describe
from models.identity import partition_of

MAX_MESSAGE_BYTES = 16 * 2**20
"""The default of RabbitMQ 4 for `max_message_size`."""


def encode(queues: Sequence[str]) -> Callable[[CapturedChange], list[Message]]:
    """The encode step.

    :param queues: one name for each partition
    :returns: maps a change to one message for the queue of its document, and the drop of a
        collection to one for every queue, since its documents are in all of them. Raises
        ValueError for a message that no broker would take.
    """

    def step(change: CapturedChange) -> list[Message]:
        event = ChangeEvent.from_change(change)
        if event.op == "drop":
            return [event.to_message(queue) for queue in queues]
        queue = queues[partition_of(event.type, event.entry_id, len(queues))]
        message = event.to_message(queue)
        if len(message.body) > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"a message of {len(message.body):,} bytes is larger than what a broker takes "
                f"({MAX_MESSAGE_BYTES:,} bytes): divide the document"
            )
        return [message]

    return step


def removal(queues: Sequence[str]) -> Callable[[CapturedChange], list[Message]]:
    """The step that replaces a change without a message by a delete: a fresh sync would not store
    its document, so an older version must not stay.
    """
    step = encode(queues)
    return lambda change: step(change._replace(op="delete", document=None))


def unencodable(change: CapturedChange, error: Exception) -> DeadLetter:
    """The dead letter of a change that has no message; its body names the document only."""
    gone = ChangeEvent.from_change(change._replace(op="delete", document=None))
    return DeadLetter(
        body=gone.to_message("").body,
        stage="encode",
        reason=describe(error),
        headers={"op": change.op},
        type=change.collection,
        entry_id=entry_id_of(change.id),
        version=Version(change.version, change.ordinal),
    )
