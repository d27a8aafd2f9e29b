"""A channel to a broker that holds nothing but dead letters, for `flows.replay`."""

from collections import deque
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pika

from connectors.qdrant import QdrantStore
from flows.replay import replay
from flows.settings import Settings
from models import Message


class DeadLetterChannel:
    """What `replay` needs of a channel."""

    def __init__(self, letters: Iterable[Message], at: int) -> None:
        self._letters = deque(letters)
        self._at = at
        self.published: list[Message] = []

    def confirm_delivery(self) -> None: ...

    def basic_ack(self, tag: int) -> None: ...

    def queue_declare(self, queue: str = "", **_: Any) -> Any:
        count = len(self._letters) if queue.endswith(".dlq") else 0
        return SimpleNamespace(method=SimpleNamespace(message_count=count))

    def basic_get(self, _queue: str) -> Any:
        letter = self._letters.popleft()
        properties = pika.BasicProperties(headers=dict(letter.headers), timestamp=self._at)
        return SimpleNamespace(delivery_tag=1), properties, letter.body

    def basic_publish(
        self, _exchange: str, queue: str, body: bytes, properties: Any, **_: Any
    ) -> None:
        self.published.append(Message(queue, body, properties.headers))


def replayed(
    letters: Iterable[Message],
    store: QdrantStore | None,
    at: int,
    queue: str = "default",
    **env: str,
) -> list[Message]:
    """The messages that a replay publishes: into the queues, or back into the dead-letter queue.

    :param at: when the letters were published, in seconds since 1970
    """
    channel: Any = DeadLetterChannel(letters, at)
    replay(channel, Settings.from_env({"RABBITMQ_QUEUE_NAME": queue, **env}), store)
    published: list[Message] = channel.published
    return published
