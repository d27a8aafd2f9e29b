"""A broker that keeps a connection alive and does not answer: the connection is given up."""

from types import SimpleNamespace
from typing import Any

import pytest

from connectors.rabbitmq import RabbitMQSettings, link
from connectors.rabbitmq.consumer import Consumer


def given_up(consumer: Any) -> bool:
    """Whether the next look at the connection ends it."""
    ended: list[bool] = []
    loop = SimpleNamespace(stop=lambda: ended.append(True), call_later=lambda *_: None)
    consumer._tick(SimpleNamespace(ioloop=loop))
    return bool(ended)


def test_a_cancel_that_is_never_answered_does_not_stop_a_queue_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer: Any = Consumer(RabbitMQSettings(), [], "q", prefetch=10)
    answers: list[Any] = []
    channel = SimpleNamespace(
        basic_cancel=lambda _tag, callback: answers.append(callback),
        basic_qos=lambda prefetch_count, callback: callback(None),
        basic_consume=lambda *_, callback, **__: callback(None),
    )
    monkeypatch.setattr(link, "_UNANSWERED_S", -1.0)
    consumer._consuming()
    assert not given_up(consumer)
    consumer._take_all(channel)
    assert given_up(consumer)
    answers[0](None)
    assert not given_up(consumer)
