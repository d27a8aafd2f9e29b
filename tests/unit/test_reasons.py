"""The reason that a person is given for a system that is away."""

import socket
import time

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from connectors.mongodb import reason_of
from connectors.rabbitmq import (
    RabbitMQConnection,
    RabbitMQPublisher,
    RabbitMQSettings,
    topology,
)


def away(caplog: pytest.LogCaptureFixture) -> str:
    """The line of a connection that does not open."""
    settings = RabbitMQSettings(port=1)
    publisher = RabbitMQPublisher(settings, topology("q", 1))
    publisher.start()
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            for record in caplog.records:
                if "is away" in record.getMessage():
                    return record.getMessage()
            time.sleep(0.01)
    finally:
        publisher.close()
    raise AssertionError("the absence was not logged")


def test_a_broker_that_is_away_is_not_told_by_the_name_of_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was "waiting for it: AMQPConnectionError"."""
    assert away(caplog).endswith("Connection refused")


def test_a_host_name_that_nobody_knows_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was "waiting for it: AMQPConnectionWorkflowFailed"."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert away(caplog).endswith("Name or service not known")


def test_a_command_says_why_the_broker_cannot_be_reached() -> None:
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 .*Connection refused$"):
        RabbitMQConnection(port=1).connect()


def test_an_absent_mongodb_is_told_without_the_topology_of_the_driver() -> None:
    """It was cut off in the middle of a server description."""
    client: MongoClient[object] = MongoClient("127.0.0.1", 1, serverSelectionTimeoutMS=50)
    with client, pytest.raises(PyMongoError) as raised:
        client.admin.command("ping")
    assert reason_of(raised.value).endswith("Connection refused")


def test_a_refusal_of_mongodb_is_told_without_the_whole_reply() -> None:
    reply = {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18}
    refused = OperationFailure("Authentication failed.", 18, reply)
    assert reason_of(refused) == "Authentication failed."
