"""The health checks of docker-compose.yml: cheap enough to run for ever, and able to fail."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
import yaml

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
CHECKED = sorted(name for name in SERVICES if "healthcheck" in SERVICES[name])
OK = b"HTTP/1.0 200 OK\r\n\r\n"
HELLO = b"\x10" + bytes(80)
"""As much of an answer as the check looks at."""


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that sends one answer to each client's first bytes; its port and these bytes."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(0.5)
                    try:
                        asked.append(client.recv(4096))
                    except OSError:
                        continue
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def healthy(name: str, ports: dict[str, int]) -> bool:
    """Whether the check of a service passes when these are its ports."""
    command, *words = SERVICES[name]["healthcheck"]["test"]
    assert command == "CMD"
    script = " ".join(words[2:]).replace("$$", "$")
    for port, own in ports.items():
        assert f"/{port}" in script or port == "$MEMBER_PORT"
        script = re.sub(rf"/{re.escape(port)}(?=\W)", f"/{own}", script)
    environment = os.environ | {"MEMBER_PORT": str(ports.get("$MEMBER_PORT", 0))}
    done = subprocess.run(
        [*words[:2], script], env=environment, capture_output=True, timeout=10, check=False
    )
    return done.returncode == 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("name", CHECKED)
def test_health_checks_do_not_keep_an_idle_machine_busy(name: str) -> None:
    """A shell of the server every ten seconds for each took two thirds of a core."""
    check = SERVICES[name]["healthcheck"]
    assert check["test"][1] == "bash"
    assert not re.search("mongosh|rabbitmq-|rabbitmqctl|python|curl", " ".join(check["test"]))
    assert check["interval"] == "30s"
    # ... and the stack does not come up the later for that
    assert check["start_interval"] == "2s"
    assert check["start_period"] == "120s"


@pytest.mark.parametrize(
    ("name", "port", "good", "bad"),
    [
        ("mongo1", "$MEMBER_PORT", HELLO, b""),
        ("mongo3", "$MEMBER_PORT", HELLO, b""),
        ("qdrant", "6333", OK, b"HTTP/1.0 503 Service Unavailable\r\n\r\n"),
        ("cdc", "3030", OK, b"HTTP/1.0 404 Not Found\r\n\r\n"),
        ("features", "3030", OK, b""),
    ],
)
def test_a_check_tells_a_server_that_answers_from_one_that_does_not(
    name: str, port: str, good: bytes, bad: bytes
) -> None:
    with answering(good) as (own, _):
        assert healthy(name, {port: own})
    with answering(bad) as (own, _):
        assert not healthy(name, {port: own})
    assert not healthy(name, {port: closed_port()})


def test_the_check_of_the_broker_needs_both_of_its_ports() -> None:
    with answering(b"") as (amqp, asked), answering(OK) as (pages, _):
        assert healthy("rabbitmq", {"5672": amqp, "15672": pages})
        assert not healthy("rabbitmq", {"5672": closed_port(), "15672": pages})
        assert not healthy("rabbitmq", {"5672": amqp, "15672": closed_port()})
    # a byte to its AMQP port would be a warning in its log, twice a minute
    assert not any(asked)


def test_the_check_of_a_member_is_a_hello_in_the_wire_protocol() -> None:
    with answering(HELLO) as (port, asked):
        assert healthy("mongo1", {"$MEMBER_PORT": port})
    (message,) = asked
    assert int.from_bytes(message[:4], "little") == len(message)
    assert int.from_bytes(message[12:16], "little") == 2013
    assert bson.decode(message[21:]) == {"hello": 1, "$db": "admin"}
