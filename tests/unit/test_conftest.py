"""Servers that the environment names: their credentials are used, and one that is gone is said."""

import time

import pytest

from ops.local_server import free_port
from tests import conftest


def test_a_named_broker_that_does_not_answer_ends_the_run_at_once_on_one_line() -> None:
    began = time.monotonic()
    named = {"RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": str(free_port())}
    with pytest.raises(
        pytest.exit.Exception, match=r"RABBITMQ_HOST=127.0.0.1, .* user somebody"
    ) as e:
        conftest.named_broker(
            {
                **named,
                "RABBITMQ_DEFAULT_USERNAME": "somebody",
                "RABBITMQ_DEFAULT_PASSWORD": "secret word",
            }
        )
    assert "\n" not in str(e.value)
    assert "secret word" not in str(e.value)
    assert time.monotonic() - began < 4 * conftest.ANSWER_S


def test_a_named_mongodb_that_does_not_answer_ends_the_run_at_once_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "ANSWER_S", 0.3)
    with pytest.raises(pytest.exit.Exception, match="MONGO_DATABASE_HOST does not answer") as e:
        conftest.named_mongodb(f"mongodb://127.0.0.1:{free_port()}")
    assert "\n" not in str(e.value)
