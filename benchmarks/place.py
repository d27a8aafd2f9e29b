"""Where a row is measured: private servers, queues and databases of its own, flows as processes."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pymongo import MongoClient
from pymongo.database import Database
from qdrant_client import QdrantClient

from connectors.qdrant import QdrantSettings, open_client
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.rabbitmq import RabbitMQSettings, topology
from ops.flow_process import ROOT, FlowProcess
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode

_stores: dict[Path, QdrantClient] = {}


def _store(folder: Path) -> QdrantClient:
    if folder not in _stores:
        _stores[folder] = open_client(QdrantSettings(path=folder))
    return _stores[folder]


@dataclass(frozen=True)
class Place:
    """Names that no other row uses, on servers that all rows share."""

    mongo_uri: str
    broker: RabbitMQSettings
    folder: Path
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:10])

    @property
    def queue(self) -> str:
        return f"bench-{self.name}"

    @property
    def qdrant(self) -> Path:
        return self.folder / f"qdrant-{self.name}"

    @property
    def store(self) -> QdrantClient:
        """A client of the embedded store, which it starts; closed with the servers."""
        return _store(self.qdrant)

    @property
    def client(self) -> "MongoClient[dict[str, Any]]":
        return MongoClient(self.mongo_uri)

    @property
    def database(self) -> "Database[dict[str, Any]]":
        return self.client[f"bench_{self.name}"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the bare commands work here, whatever `.env` says."""
        return {
            "MONGO_DATABASE_HOST": self.mongo_uri,
            "MONGO_DATABASE_NAME": f"bench_{self.name}",
            "MONGO_CHECKPOINT_DATABASE": f"bench_cdc_{self.name}",
            "RABBITMQ_HOST": self.broker.host,
            "RABBITMQ_PORT": str(self.broker.port),
            "RABBITMQ_DEFAULT_USERNAME": self.broker.username,
            "RABBITMQ_DEFAULT_PASSWORD": self.broker.password,
            "RABBITMQ_VIRTUAL_HOST": self.broker.virtual_host,
            "RABBITMQ_TLS": "false",
            "RABBITMQ_QUEUE_NAME": self.queue,
            "RABBITMQ_PARTITIONS": "1",
            "QDRANT_URL": "",
            "QDRANT_PATH": str(self.qdrant),
            "QDRANT_COLLECTION_PREFIX": "",
            "LOG_LEVEL": "WARNING",
        }

    @contextlib.contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel of a connection of its own."""
        connection = pika.BlockingConnection(self.broker.parameters())
        try:
            yield connection.channel()
        finally:
            connection.close()

    def declare(self, partitions: int = 1) -> None:
        """Make the queues as the flows make them."""
        with self.channel() as channel:
            for declaration in topology(self.queue, partitions):
                channel.queue_declare(**declaration)

    def delete_queues(self, partitions: int = 1) -> None:
        """Give the broker its memory back."""
        with self.channel() as channel:
            for declaration in topology(self.queue, partitions):
                channel.queue_delete(declaration["queue"])

    @contextlib.contextmanager
    def flow(
        self,
        module: str,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> Iterator["MeasuredFlow"]:
        """Run `python -m bytewax.run <module> -s 1` for the length of a block."""
        log = self.folder / f"{module}-{self.name}.log"
        variables = {**self.environment, **(environment or {})}
        flow = MeasuredFlow(module, variables, log, ("-s", "1", *arguments))
        try:
            yield flow
        finally:
            flow.stop(15)


class MeasuredFlow(FlowProcess):
    """A flow whose costs are read while it runs."""

    def __init__(
        self, module: str, environment: Mapping[str, str], log: Path, arguments: Sequence[str]
    ) -> None:
        self.started_at = time.monotonic()
        super().__init__(module, environment, log, arguments)

    def cpu_seconds(self) -> float:
        """Processor time used so far, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory that is its own: file pages that are only mapped do not count. That of
        the process that works on texts counts as well.
        """
        return sum(memory_mb(pid) for pid in self._processes())

    def _processes(self) -> Iterator[int]:
        """It and its children, but for the store, and for a fork that has not begun its program
        yet: all its pages are still those of its parent, and would count twice.
        """
        yield self.process.pid
        own = _command_of(str(self.process.pid))
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the thread has ended
                for child in file.read_text().split():
                    command = _command_of(child)
                    if command != own and b"connectors.qdrant.embedded" not in command:
                        yield int(child)


def _command_of(pid: str) -> bytes:
    with contextlib.suppress(OSError):  # the process has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def memory_mb(pid: int) -> float:
    """Resident memory of a process that is its own; 0 if it has ended."""
    with contextlib.suppress(OSError):  # the process has ended
        status = Path(f"/proc/{pid}/status").read_text()
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            return int(found[1]) / 1024
    return 0.0


class Servers:
    """Both servers in a temporary folder, started when the first row asks for them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._started: tuple[MongoServer, RabbitMQNode, Path] | None = None

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *exc: object) -> None:
        while _stores:
            _stores.popitem()[1].close()
        if self._started is not None:
            for folder in self._started[2].glob("qdrant-*"):
                stop(StoreFolder(folder))
        self._stack.close()

    def place(self) -> Place:
        """A new place."""
        if self._started is None:
            folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="twinstream-bench-"))
            )
            broker = self._stack.enter_context(RabbitMQNode(folder / "rabbitmq"))
            mongo = self._stack.enter_context(MongoServer(folder / "mongodb"))
            self._started = (mongo, broker, folder)
        mongo, broker, folder = self._started
        return Place(mongo.uri, RabbitMQSettings(port=broker.port), folder)


def wait_for(
    what: str, check: Callable[[], object], timeout: float = 120, every: float = 0.05
) -> None:
    """Wait until `check()` is true; fails with `what` when it never is."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        time.sleep(every)


def on_path(program: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Output of a Python module run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *program],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout
