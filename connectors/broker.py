"""How to reach a broker, and every queue on it."""

import ssl
from dataclasses import dataclass, field
from typing import Any

import pika

DELIVERY_LIMIT = 20
"""High, because a crash of the consumer counts a delivery for every unacknowledged message."""

_HEARTBEAT_S = 60


@dataclass(frozen=True, slots=True)
class RabbitMQSettings:
    """How to reach a broker."""

    host: str = "127.0.0.1"
    port: int = 5672
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    tls: bool = False
    ca_file: str = ""
    """Certificates to trust with `tls`; empty for those of the system."""

    def parameters(self) -> pika.ConnectionParameters:
        """Pika's form of these settings.

        :raises OSError: `ca_file` cannot be read
        """
        options = None
        if self.tls:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            options = pika.SSLOptions(context, self.host)
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(self.username, self.password),
            ssl_options=options,
            heartbeat=_HEARTBEAT_S,
            socket_timeout=10,
            stack_timeout=15,
        )


def queue_names(queue: str, partitions: int) -> list[str]:
    """The queue of each partition: `<queue>` for one, `<queue>.<i>` for more."""
    return [queue] if partitions == 1 else [f"{queue}.{i}" for i in range(partitions)]


def dead_letter_queue(queue: str) -> str:
    """The one dead-letter queue behind all partitions."""
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
