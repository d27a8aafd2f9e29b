"""The private servers of `ops.stack`: real use, kill -9, restart on the same data, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pymongo
import pytest

from ops.local_server import StackError, free_port
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode, find_rabbitmq_server

ROOT = Path(__file__).parents[2]
needs_proc = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="processes are seen in /proc"
)


def needs_rabbitmq() -> None:
    """Skip without a broker, but fail under CI: there it must be installed."""
    try:
        find_rabbitmq_server()
    except StackError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RabbitMQNode]:
    needs_rabbitmq()
    with RabbitMQNode(tmp_path / "rabbitmq") as node:
        yield node


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[MongoServer]:
    with MongoServer(tmp_path / "mongodb") as server:
        yield server


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that were started for, or work in, a data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder = str((process / "cwd").readlink())
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if folder.startswith(str(directory)) or os.fsencode(directory) in text:
            found.append(f"{process.name} {text[:200]!r}")
    return found


def assert_nothing_runs(directory: Path) -> None:
    deadline = time.monotonic() + 5
    while processes_of(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(directory) == []


def connect(node: RabbitMQNode) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.ConnectionParameters(node.broker.host, node.port))


@needs_proc
def test_a_killed_broker_keeps_its_messages_and_leaves_no_process(node: RabbitMQNode) -> None:
    with connect(node) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        # The arguments of the real topology: they need every feature flag of RabbitMQ 3.10.
        channel.queue_declare("dead", durable=True, arguments={"x-queue-type": "quorum"})
        at_least_once = {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-single-active-consumer": True,
        }
        channel.queue_declare("live", durable=True, arguments=at_least_once)
        # RabbitMQ 3.10 registers a new quorum queue on disk half a second later or more; killed
        # before that, it comes up with a queue that is empty and never has a leader.
        time.sleep(2)
        persistent = pika.BasicProperties(delivery_mode=2)
        for number in range(10):
            channel.basic_publish("", "live", str(number).encode(), persistent, mandatory=True)
    assert node.process is not None
    killed, port = node.process, node.port

    node.kill()

    assert killed.returncode == -signal.SIGKILL
    assert_nothing_runs(node.data_dir)
    node.start()
    assert node.port == port
    with connect(node) as connection:
        channel = connection.channel()
        received = []
        for method, _, body in channel.consume("live", inactivity_timeout=10):
            received.append(body)
            if len(received) == 10:
                channel.basic_nack(method.delivery_tag, requeue=False)
                break
            channel.basic_ack(method.delivery_tag)
        assert received == [str(number).encode() for number in range(10)]
        method, _, body = next(connection.channel().consume("dead", inactivity_timeout=10))
        assert (method is not None, body) == (True, b"9")

    node.stop()
    assert_nothing_runs(node.data_dir)


@needs_proc
def test_a_quote_in_the_path_of_the_checkout_does_not_keep_the_broker_from_starting(
    tmp_path: Path,
) -> None:
    """RabbitMQ gave the path to a shell between quotes, and waited for ever."""
    needs_rabbitmq()
    folder = tmp_path / """it's "my" $checkout"""
    with RabbitMQNode(folder) as node:
        node.restart()
        connect(node).close()
    assert (folder / "mnesia").is_dir()
    assert_nothing_runs(folder)


@needs_proc
def test_a_killed_database_keeps_acknowledged_writes_and_its_history(mongo: MongoServer) -> None:
    with pymongo.MongoClient(mongo.uri) as client:
        posts = client.twin.posts
        with client.twin.watch(max_await_time_ms=100) as stream:
            posts.insert_one({"_id": 1})
            change = stream.next()
            assert change["documentKey"] == {"_id": 1}
            token = stream.resume_token
        posts.insert_one({"_id": 2})

        mongo.kill()
        assert_nothing_runs(mongo.data_dir)
        mongo.start()

        assert sorted(document["_id"] for document in posts.find()) == [1, 2]
        with client.twin.watch(resume_after=token) as stream:
            assert stream.next()["documentKey"] == {"_id": 2}

    mongo.stop()
    assert_nothing_runs(mongo.data_dir)


def test_a_server_listens_on_loopback_only_and_on_the_port_it_was_given(tmp_path: Path) -> None:
    port = free_port()
    with MongoServer(tmp_path, port) as server:
        assert server.uri == f"mongodb://127.0.0.1:{port}"
        assert free_port() != port
    assert MongoServer(tmp_path).port == port, "a directory remembers its port"


def test_a_port_or_directory_in_use_is_one_clear_line(mongo: MongoServer, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=rf"^port {mongo.port} is in use.*$"):
        MongoServer(tmp_path / "other", mongo.port).start()
    with pytest.raises(StackError, match=r"^.*mongodb is in use by another mongodb.*$"):
        MongoServer(mongo.data_dir, free_port()).start()
    assert mongo.running


@needs_proc
@pytest.mark.parametrize("server", ["rabbitmq", "mongodb"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_the_command_ends_with_its_server(server: str, signum: int, tmp_path: Path) -> None:
    if server == "rabbitmq":
        needs_rabbitmq()
    command = [sys.executable, "-m", "ops.stack", server, "--data", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "is up on 127.0.0.1:" in process.stdout.readline()
        assert processes_of(tmp_path)

        process.send_signal(signum)

        assert process.wait(40) == (-signum if signum == signal.SIGKILL else 0)
        assert_nothing_runs(tmp_path)
    finally:
        process.kill()
        process.communicate()
