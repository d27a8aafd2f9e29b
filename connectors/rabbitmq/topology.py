"""The queues on the broker, and their arguments."""

from typing import Any

DELIVERY_LIMIT = 20
"""High, because a crash of the consumer counts one delivery for every unacknowledged message."""


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
    return [
        {"queue": dlq, "durable": True, "arguments": {"x-queue-type": "quorum"}},
        *(
            {"queue": name, "durable": True, "arguments": arguments}
            for name in queue_names(queue, partitions)
        ),
    ]
