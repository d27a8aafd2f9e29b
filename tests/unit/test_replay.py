"""`make replay` gives up a letter only after the broker has its message."""

import time
from typing import Any

import pytest
from pika.exceptions import NackError

from flows.replay import replay
from flows.settings import Settings
from models import Message
from tests.dead_letters import DeadLetterChannel

NOW = int(time.time())


class Refusing(DeadLetterChannel):
    """A broker whose queues are full."""

    def __init__(self, letters: list[Message]) -> None:
        super().__init__(letters, NOW)
        self.acknowledged = 0

    def basic_ack(self, tag: int) -> None:
        self.acknowledged += 1

    def basic_publish(self, *_: Any, **__: Any) -> None:
        raise NackError([])


@pytest.mark.parametrize("age_s", [0, 30 * 86400], ids=["replayed", "left where it is"])
def test_a_letter_whose_message_is_refused_stays_in_its_queue(age_s: int) -> None:
    headers = {"version": NOW - age_s << 32, "document_type": "posts", "document_id": "a"}
    channel: Any = Refusing([Message("default.dlq", b"{}", headers)])
    with pytest.raises(NackError):
        replay(channel, Settings.from_env({}), None)
    assert channel.acknowledged == 0
