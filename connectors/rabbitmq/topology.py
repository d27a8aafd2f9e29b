"""The queues on the broker, and their arguments."""

from typing import Any

DELIVERY_LIMIT = 20
"""High, because a crash of the consumer counts one delivery for every unacknowledged message."""

NO_DELIVERY_LIMIT = 2**31 - 1
"""For the dead letters. Without a limit of its own a quorum queue of RabbitMQ 4 has one of 20, and
a letter that somebody looks at so often is gone. A limit of -1 is none, but not before 4.0."""


def queue_names(queue: str, partitions: int) -> list[str]:
    """The queue of each partition: `<queue>` for one, `<queue>.<i>` for more."""
    return [queue] if partitions == 1 else [f"{queue}.{i}" for i in range(partitions)]


def dead_letter_queue(queue: str) -> str:
    """The one dead-letter queue of all partitions."""
    return f"{queue}.dlq"


def topology(queue: str, partitions: int = 1) -> list[dict[str, Any]]:
    """Every queue, as arguments of `queue_declare`: the dead letters, then the partitions."""
    dlq = dead_letter_queue(queue)
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dlq,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    letters = {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}
    return [
        {"queue": dlq, "durable": True, "arguments": letters},
        *(
            {"queue": name, "durable": True, "arguments": arguments}
            for name in queue_names(queue, partitions)
        ),
    ]
