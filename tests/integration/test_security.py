"""TLS to MongoDB and RabbitMQ with a certificate authority of our own, and secrets kept."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.rabbitmq import RabbitMQConnection, RabbitMQSettings, publish_to_rabbitmq
from ops.local_server import free_port
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.chaos.harness import Flows, queue_depth, settle
from tests.chaos.test_confirms import wait_until
from tests.conftest import Place

SECRET = "s3cret-p4ssword"


@pytest.fixture
def secured(certificates: Path, tmp_path: Path) -> Iterator[Place]:
    """A place whose servers speak TLS only to those who check their certificate."""
    tls_port = free_port()
    config = {
        "listeners.ssl.local": f"127.0.0.1:{tls_port}",
        "ssl_options.cacertfile": str(certificates / "ca.pem"),
        "ssl_options.certfile": str(certificates / "server.pem"),
        "ssl_options.keyfile": str(certificates / "server.key"),
        "ssl_options.verify": "verify_none",
    }
    ca = str(certificates / "ca.pem")
    mongo_arguments = (
        "--tls-cert-file", str(certificates / "server.pem"),
        "--tls-key-file", str(certificates / "server.key"),
    )  # fmt: skip
    with (
        RabbitMQNode(tmp_path / "rabbitmq", extra_config=config),
        MongoServer(
            tmp_path / "mongodb", extra_args=mongo_arguments, options=f"tls=true&tlsCAFile={ca}"
        ) as mongo,
    ):
        broker = RabbitMQSettings(port=tls_port, tls=True, ca_file=ca)
        yield Place(mongo.uri, broker, "secured", tmp_path)


def test_everything_works_over_tls(secured: Place) -> None:
    secured.database.posts.insert_many([{"_id": i, "content": f"text {i}"} for i in range(10)])
    extra = {"RABBITMQ_TLS": "true", "RABBITMQ_CA_FILE": secured.rabbitmq.ca_file}
    flows = Flows(secured, extra=extra)
    with flows.both():
        assert settle(secured, flows, 60) == []
        secured.database.posts.delete_one({"_id": 3})
        assert settle(secured, flows, 30) == []
        assert set(flows.stop().values()) == {0}
    assert queue_depth(secured, secured.queue) == 0
    untrusting = RabbitMQSettings(port=secured.rabbitmq.port, tls=True)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        RabbitMQConnection(settings=untrusting).connect()


def test_a_refused_login_shows_no_password(place: Place) -> None:
    """Both flows wait, since a password may be on its way to being rotated, and say why."""
    uri = place.mongo_uri.replace("mongodb://", f"mongodb://user:{SECRET}@")
    extra = {"RABBITMQ_DEFAULT_PASSWORD": SECRET, "MONGO_DATABASE_HOST": uri}
    flows = Flows(place, extra=extra)
    with flows.both():
        features = flows.running["features"]
        wait_until("the refusal in its log", lambda: "is away" in features.output())
        for process in flows.running.values():
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5)
            assert SECRET not in process.output()
            command = Path(f"/proc/{process.process.pid}/cmdline")
            if command.exists():
                assert SECRET.encode() not in command.read_bytes()
    wrong = RabbitMQSettings(port=place.rabbitmq.port, password=SECRET)
    with pytest.raises(ConnectionError) as caught:
        publish_to_rabbitmq(place.queue, "x", settings=wrong)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(RabbitMQConnection(settings=wrong))
