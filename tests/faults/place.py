"""Where one run works: queues, databases and collections of its own on servers that all share."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import pika
from pymongo import MongoClient
from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.common.client_exceptions import QdrantException

from connectors.qdrant import STORE_ERRORS, QdrantSettings, open_client, scroll
from connectors.rabbitmq import RabbitMQSettings, dead_letter_queue
from models import DOCUMENT_TYPES
from retrieval.sync import Point, State, compare, point_of
from tests.conftest import Place
from tests.faults.programs import Program, Programs
from tests.hashing import HashingEmbedder
from tests.oracle import documents_of, fresh
from tests.qdrant_server import QdrantServer

Document = tuple[str, str]
"""Type and `entry_id`."""


@dataclass
class Servers:
    """What all runs share.

    :param stores: more than one, since each is a single process
    """

    mongo_uri: str
    rabbitmq: RabbitMQSettings
    stores: list[QdrantServer]
    programs: Programs
    folder: Path
    _expected: dict[str, State] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _count: int = 0

    def __post_init__(self) -> None:
        self.mongo: MongoClient[dict[str, Any]] = MongoClient(self.mongo_uri)
        self.clients = [open_client(store.settings) for store in self.stores]

    @contextmanager
    def place(self) -> Iterator["FaultPlace"]:
        """A new place, for the length of a block."""
        with self._lock:
            index, self._count = self._count % len(self.stores), self._count + 1
        name = uuid.uuid4().hex[:12]
        folder = self.folder / name
        folder.mkdir(parents=True)
        here = Place(self.mongo_uri, self.rabbitmq, name, folder, self.stores[index])
        place = FaultPlace(here, self, self.clients[index])
        try:
            yield place
        finally:
            place.clear()

    def expected(self, when: str, place: "FaultPlace") -> State:
        """What a fresh sync stores at a point of the scenario, whose writes are always the same."""
        with self._lock:
            if when not in self._expected:
                self._expected[when] = fresh(documents_of(place.database), HashingEmbedder())
            return self._expected[when]

    def close(self) -> None:
        """Close the clients."""
        self.mongo.close()
        for client in self.clients:
            client.close()


class FaultPlace:
    """Looks at what one run has come to."""

    def __init__(self, here: Place, servers: Servers, client: QdrantClient) -> None:
        self._here = here
        self._servers = servers
        self.client = client
        self.folder = here.folder
        self.database = servers.mongo[f"twin_{here.name}"]
        self.store: QdrantSettings = replace(here.qdrant, prefix=f"{here.name}_")
        self.names = self.store.collections
        self._first = ""

    @property
    def environment(self) -> dict[str, str]:
        """What makes the real commands work here."""
        return {**self._here.environment, "QDRANT_COLLECTION_PREFIX": self.store.prefix}

    def start(self, module: str, environment: Mapping[str, str], log: Path) -> Program:
        """Start a program of the product here."""
        return self._servers.programs.start(module, environment, log)

    def differences(self, when: str) -> list[str]:
        """How a collection differs from a fresh sync; empty when all are in sync."""
        expected = self._servers.expected(when, self)
        kinds = (self.names.cleaned, self.names.vectors)
        names = [name(type_) for type_ in DOCUMENT_TYPES for name in kinds]
        # The one that differed last comes first: as long as it does, no other one is read.
        for name in sorted(names, key=lambda name: name != self._first):
            want = expected.points.get(name.removeprefix(self.store.prefix), {})
            have = State({name: self._points(name)}, with_vectors=True)
            lines = compare(State({name: want}, with_vectors=True), have)
            if lines:
                self._first = name
                return lines
        return []

    def _points(self, name: str) -> dict[str, Point]:
        try:
            return {
                str(record.id): point_of(record)
                for record in scroll(self.client, name, with_vectors=True)
            }
        except (*STORE_ERRORS, QdrantException):  # it is not there yet
            return {}

    def letters(self) -> set[Document]:
        """The documents that are dead letters now; the letters stay."""
        connection = pika.BlockingConnection(self._here.rabbitmq.parameters())
        found = set()
        with suppress(pika.exceptions.ChannelClosedByBroker):
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(dead_letter_queue(self._here.queue))
                if method is None:
                    break
                found.add(_document(properties.headers or {}, body))
        connection.close()
        return found

    def forget_letters(self) -> None:
        """Delete all dead letters."""
        connection = pika.BlockingConnection(self._here.rabbitmq.parameters())
        connection.channel().queue_purge(dead_letter_queue(self._here.queue))
        connection.close()

    def publish(self, letters: Iterable[tuple[bytes, dict[str, Any]]]) -> None:
        """Put bodies with headers among the dead letters."""
        connection = pika.BlockingConnection(self._here.rabbitmq.parameters())
        channel = connection.channel()
        channel.confirm_delivery()
        for body, headers in letters:
            properties = pika.BasicProperties(delivery_mode=2, headers=headers)
            channel.basic_publish("", dead_letter_queue(self._here.queue), body, properties)
        connection.close()

    def bury(self, entry_id: str, deleted_at: float) -> str:
        """Write a tombstone; its id."""
        id_ = str(uuid.uuid4())
        payload = {"type": "posts", "entry_id": entry_id, "version": 1, "deleted_at": deleted_at}
        point = q.PointStruct(id=id_, vector={}, payload=payload)
        self.client.upsert(self.names.tombstones, [point], wait=True)
        return id_

    def is_buried(self, id_: str) -> bool:
        """Whether a tombstone is there."""
        return bool(self.client.retrieve(self.names.tombstones, [id_]))

    def clear(self) -> None:
        """Delete everything."""
        for database in (self.database.name, f"cdc_{self._here.name}"):
            self._servers.mongo.drop_database(database)
        types = list(DOCUMENT_TYPES)
        for name in (
            *map(self.names.cleaned, types),
            *map(self.names.vectors, types),
            self.names.tombstones,
            self.names.owner,
        ):
            self.client.delete_collection(name)
        connection = pika.BlockingConnection(self._here.rabbitmq.parameters())
        channel = connection.channel()
        for queue in (self._here.queue, dead_letter_queue(self._here.queue)):
            channel.queue_delete(queue)
        connection.close()


def _document(headers: dict[str, Any], body: bytes) -> Document:
    if "document_id" in headers:
        return headers["document_type"], headers["document_id"]
    try:
        document = json.loads(body)
        return document["type"], document["entry_id"]
    except (ValueError, KeyError, TypeError):
        return "", body.decode(errors="replace")


@contextmanager
def shared_servers(
    mongo_uri: str, rabbitmq: RabbitMQSettings, folder: Path, stores: int
) -> Iterator[Servers]:
    """Servers for many runs, the stores among them started here."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(QdrantServer(folder / f"qdrant-{number}"))
            for number in range(stores)
        ]
        programs = stack.enter_context(Programs())
        servers = Servers(mongo_uri, rabbitmq, running, programs, folder / "runs")
        stack.callback(servers.close)
        yield servers
