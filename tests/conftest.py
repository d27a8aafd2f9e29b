"""Servers for tests: the one named in the environment, else a private one, else a skip; under CI
a missing one fails. One that is named and does not answer ends the run at once."""

import os
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pika
import pytest
from hypothesis import HealthCheck, settings
from pika.exceptions import AMQPError
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from connectors.mongodb import pipeline_name
from connectors.qdrant import QdrantSettings
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.rabbitmq import RabbitMQSettings
from ops.local_server import StackError
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.hashing import HashingEmbedder
from tests.qdrant_server import QdrantServer

settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")

ANSWER_S = 5
"""How long a server that the environment names may take to answer."""


@dataclass(frozen=True)
class Place:
    """Where one test works: its own queue, databases and folder on shared servers."""

    mongo_uri: str
    rabbitmq: RabbitMQSettings
    name: str
    folder: Path
    server: QdrantServer | None = None
    """Instead of the embedded store."""

    @property
    def queue(self) -> str:
        return f"q-{self.name}"

    @property
    def pipeline(self) -> str:
        """The `_id` of the checkpoint of the real commands here."""
        return pipeline_name(self.database.name, self.rabbitmq.virtual_host, self.queue)

    @property
    def checkpoints(self) -> "Collection[dict[str, Any]]":
        return MongoClient(self.mongo_uri)[f"cdc_{self.name}"].checkpoints

    @property
    def qdrant(self) -> QdrantSettings:
        path = self.folder / "qdrant"
        return QdrantSettings(path=path) if self.server is None else self.server.settings

    @property
    def database(self) -> "Database[dict[str, Any]]":
        return MongoClient(self.mongo_uri)[f"twin_{self.name}"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the real commands work here."""
        return {
            "MONGO_DATABASE_HOST": self.mongo_uri,
            "MONGO_DATABASE_NAME": f"twin_{self.name}",
            "MONGO_CHECKPOINT_DATABASE": f"cdc_{self.name}",
            "RABBITMQ_HOST": self.rabbitmq.host,
            "RABBITMQ_PORT": str(self.rabbitmq.port),
            "RABBITMQ_DEFAULT_USERNAME": self.rabbitmq.username,
            "RABBITMQ_DEFAULT_PASSWORD": self.rabbitmq.password,
            "RABBITMQ_VIRTUAL_HOST": self.rabbitmq.virtual_host,
            "RABBITMQ_QUEUE_NAME": self.queue,
            "QDRANT_PATH": str(self.qdrant.path),
            "QDRANT_COLLECTION_PREFIX": "",
            "QDRANT_URL": self.qdrant.url,
            "QDRANT_GRPC_PORT": str(self.qdrant.grpc_port),
        }

    def channel(self) -> Any:
        """A new connection's channel."""
        return pika.BlockingConnection(self.rabbitmq.parameters()).channel()

    def messages(self, queue: str, quiet: float = 0.5) -> list[tuple[Any, bytes]]:
        """Take everything out of a queue that nobody consumes: (properties, body)."""
        channel = self.channel()
        taken = []
        for method, properties, body in channel.consume(queue, inactivity_timeout=quiet):
            if method is None:
                break
            channel.basic_ack(method.delivery_tag)
            taken.append((properties, body))
        channel.connection.close()
        return taken


def named_broker(environment: Mapping[str, str]) -> RabbitMQSettings:
    """The broker that the environment names, by the variables of the product.

    :raises pytest.exit.Exception: it does not answer, or not to these credentials
    """
    settings = RabbitMQSettings(
        host=environment["RABBITMQ_HOST"],
        port=int(environment.get("RABBITMQ_PORT", "5672")),
        username=environment.get("RABBITMQ_DEFAULT_USERNAME", "guest"),
        password=environment.get("RABBITMQ_DEFAULT_PASSWORD", "guest"),
        virtual_host=environment.get("RABBITMQ_VIRTUAL_HOST", "/"),
    )
    parameters = settings.parameters()
    parameters.socket_timeout = parameters.stack_timeout = ANSWER_S
    parameters.blocked_connection_timeout = ANSWER_S
    try:
        pika.BlockingConnection(parameters).close()
    except (AMQPError, OSError) as error:
        _end(
            f"RABBITMQ_HOST={settings.host}, port {settings.port}, user {settings.username}", error
        )
    return settings


def named_mongodb(uri: str) -> str:
    """The server that the environment names.

    :raises pytest.exit.Exception: it does not answer
    """
    try:
        client: MongoClient[Any] = MongoClient(uri, serverSelectionTimeoutMS=ANSWER_S * 1000)
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        _end("MONGO_DATABASE_HOST", error)
    return uri


def _end(named: str, error: Exception) -> NoReturn:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    pytest.exit(f"{named} does not answer: {type(error).__name__}: {reason}", returncode=1)


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A log with half of a surrogate pair in it cannot be sent to the process that reports."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQSettings]:
    if os.environ.get("RABBITMQ_HOST"):
        yield named_broker(os.environ)
        return
    try:
        node = RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"))
        node.start()
    except StackError as error:
        _missing(str(error))
    with node:
        yield RabbitMQSettings(port=node.port)


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if uri := os.environ.get("MONGO_DATABASE_HOST"):
        yield named_mongodb(uri)
        return
    try:
        server = MongoServer(tmp_path_factory.mktemp("mongodb"))
        server.start()
    except StackError as error:
        _missing(str(error))
    with server:
        yield server.uri


@pytest.fixture
def place(rabbitmq: RabbitMQSettings, mongo_uri: str, tmp_path: Path) -> Iterator[Place]:
    here = Place(mongo_uri, rabbitmq, uuid.uuid4().hex[:12], tmp_path)
    yield here
    end_store(here)
    for name in (here.database.name, here.checkpoints.database.name):
        here.database.client.drop_database(name)


def end_store(place: Place) -> None:
    """End the server of the embedded store, which must have no user any more."""
    folder = StoreFolder(place.folder / "qdrant")
    if not folder.path.is_dir():
        return
    with folder.without_users() as unused:
        stop(folder)
    assert unused, "a client of the embedded store was left open"


@pytest.fixture
def served(place: Place) -> Iterator[Place]:
    """The same place with a server in place of the embedded store."""
    with QdrantServer(place.folder / "qdrant-server") as server:
        yield replace(place, server=server)


@pytest.fixture(scope="session")
def hashing() -> HashingEmbedder:
    return HashingEmbedder()
