"""Seeded histories on real servers: a broker, change streams, both flows as processes."""

import itertools
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from connectors.mongodb import MongoChangeStreamSource
from connectors.qdrant import open_client
from connectors.rabbitmq import RabbitMQPublisher, RabbitMQSettings, RabbitMQSource, topology
from models import CapturedChange, Delivery
from retrieval.sync import State, compare, stored_state
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.integration.test_stricter_mongodb import CALLS, port_of
from tests.mongodb_proxy import Answer, StricterMongoDB
from tests.oracle import wait_in_sync
from tests.processes import FlowProcess
from tests.publishing import NothingToPublish

TYPES = ("posts", "articles", "repositories")
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


class Writer:
    """Writes a history into MongoDB; the same seed writes the same one.

    :param place: its database
    """

    def __init__(self, place: Place, seed: int) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(place.mongo_uri)
        self.database = self.client[place.database.name]
        self.random = random.Random(seed)
        self.ids: list[Any] = ["a", "b/c", 7, bson.ObjectId("0123456789abcdef01234567"), {"n": 1}]
        self.transactions = 0
        self.drops = 0
        self.renames = 0

    def step(self) -> None:
        kinds: list[Callable[[], None]] = [self.write, self.transaction, self.drop, self.rename]
        [kind] = self.random.choices(kinds, [30, 6, 1, 1])
        kind()

    def write(self, session: Any = None, key: tuple[str, Any] | None = None) -> None:
        type_, id_ = key or (self.random.choice(TYPES), self.random.choice(self.ids))
        collection, where = self.database[type_], {"_id": id_}
        kind = self.random.choices(["replace", "update", "delete", "poison"], [5, 3, 3, 1])[0]
        if kind == "replace":
            collection.replace_one(where, self.document(), upsert=True, session=session)
        elif kind == "update":
            change = {"$set": {"content.x": self.text(), "author_id": self.text()}}
            collection.update_one(
                {**where, "content": {"$type": "object"}}, change, session=session
            )
        elif kind == "poison":
            collection.replace_one(where, {"platform": "x"}, upsert=True, session=session)
        else:
            collection.delete_one(where, session=session)

    def transaction(self) -> None:
        """Several changes of one document, and one of another, at one cluster time."""
        key = (self.random.choice(TYPES), self.random.choice(self.ids))
        with self.client.start_session() as session, session.start_transaction():
            for _ in range(self.random.randint(2, 4)):
                self.write(session, key)
            self.write(session)
        self.transactions += 1

    def drop(self) -> None:
        self.database[self.random.choice(TYPES)].drop()
        self.drops += 1

    def rename(self) -> None:
        """Rename a collection of documents that have no changes of their own into place."""
        type_ = self.random.choice(TYPES)
        self.database.drafts.insert_many([{"_id": id_, **self.document()} for id_ in self.ids[:3]])
        try:
            self.database.drafts.rename(type_, dropTarget=True)
            self.renames += 1
        except OperationFailure:
            self.database.drafts.drop()

    def document(self) -> dict[str, Any]:
        names = self.random.sample(["Title", "Content", "a.py", "b/c.md"], 2)
        return {
            "platform": self.text(),
            "name": "n",
            "owner_id": "me",
            "content": {name: self.text(self.random.choice([1, 3, 300])) for name in names},
        }

    def text(self, words: int = 1) -> str:
        return " ".join(self.random.choices(WORDS, k=words))


@pytest.mark.parametrize(("seed", "partitions"), [(1, 1), (2, 4), (3, 4)])
def test_a_history_on_real_servers_converges(place: Place, seed: int, partitions: int) -> None:
    writer = Writer(place, seed)
    for _ in range(20):
        writer.write()
    environment = {**place.environment, "RABBITMQ_PARTITIONS": str(partitions)}
    logs = place.folder
    with FlowProcess("flows.cdc", environment, logs / "cdc.log") as cdc:
        arguments = ("-s", "1", *(("-w", "2") if partitions > 1 else ()))
        with FlowProcess(
            "tests.hashing_features", environment, logs / "features.log", arguments
        ) as features:

            def alive() -> None:
                cdc.check()
                features.check()

            for _ in range(200):
                writer.step()
                time.sleep(0.005)
            wait_in_sync(writer.database, place.qdrant, HashingEmbedder(), 40, alive)
            assert features.terminate() == 0
        assert cdc.terminate() == 0
    assert writer.transactions > 10
    assert writer.drops
    assert writer.renames
    writer.client.close()


def test_a_history_with_elections_converges(place: Place) -> None:
    """Primaries step down, sockets close, and answers are lost with the change applied."""
    writer, chance = Writer(place, 4), random.Random(4)
    with StricterMongoDB(port_of(place.mongo_uri)) as strict, ExitStack() as stack:
        environment = {**place.environment, "MONGO_DATABASE_HOST": strict.uri}
        running = [
            stack.enter_context(FlowProcess(module, environment, place.folder / f"{module}.log"))
            for module in ("flows.cdc", "tests.hashing_features")
        ]

        def alive() -> None:
            for process in running:
                process.check()

        answers = itertools.cycle([Answer.CUT_AFTER, *chance.sample(list(Answer), len(Answer))])
        for _ in range(200):
            writer.step()
            if chance.random() < 0.15 and not strict.faults.pending:
                times, skip = chance.randint(1, 3), chance.randint(0, 4)
                strict.faults.fail(CALLS, next(answers), times=times, skip=skip)
            time.sleep(0.03)
        wait_in_sync(writer.database, place.qdrant, HashingEmbedder(), 60, alive)
        assert [process.terminate() for process in running] == [0, 0]
        assert {answer for _, answer in strict.faults.fired} >= {Answer.CUT_AFTER}
        assert len(strict.faults.fired) > 5
    writer.client.close()


class Pipelines:
    """Two pipelines of one database on one broker and one store, with other names each."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        self.place = place
        self.stores = [place.qdrant, replace(place.qdrant, prefix="b_")]
        self._stack = stack
        self._running: dict[int, list[FlowProcess]] = {}

    def start(self, number: int) -> None:
        theirs = {"RABBITMQ_QUEUE_NAME": f"{self.place.queue}-b", "QDRANT_COLLECTION_PREFIX": "b_"}
        environment = {**self.place.environment, **(theirs if number else {})}
        self._running[number] = [
            self._stack.enter_context(
                FlowProcess(module, environment, self.place.folder / f"{module}-{number}.log")
            )
            for module in ("flows.cdc", "tests.hashing_features")
        ]

    def stop(self, number: int) -> None:
        assert [process.terminate() for process in self._running.pop(number)] == [0, 0]

    def wait(self, *numbers: int) -> None:
        for number in numbers:
            store = self.stores[number]
            wait_in_sync(self.place.database, store, HashingEmbedder(), 90, self._alive)

    def stored(self, number: int) -> State:
        store = self.stores[number]
        with closing(open_client(store)) as client:
            return stored_state(client, with_vectors=True, collections=store.collections)

    def _alive(self) -> None:
        for process in itertools.chain(*self._running.values()):
            process.check()


@pytest.mark.slow
def test_two_pipelines_on_the_same_servers_leave_each_other_alone(served: Place) -> None:
    """While one is stopped, the other one takes part in everything, drops included."""
    writer = Writer(served, 5)
    with ExitStack() as stack:
        pipelines = Pipelines(served, stack)
        pipelines.start(0)
        pipelines.start(1)
        for stopped, other in ((1, 0), (0, 1)):
            for _ in range(60):
                writer.step()
            pipelines.wait(0, 1)
            pipelines.stop(stopped)
            before = pipelines.stored(stopped)
            for _ in range(30):
                writer.step()
            writer.database.posts.drop()
            pipelines.wait(other)
            assert compare(before, pipelines.stored(stopped)) == []
            pipelines.start(stopped)
        pipelines.wait(0, 1)
        pipelines.stop(0)
        pipelines.stop(1)
    writer.client.close()


class Consumed:
    """One life of a consumer: takes what comes, and dies without acknowledging."""

    def __init__(self, settings: RabbitMQSettings, queue: str) -> None:
        letters = RabbitMQPublisher(settings, topology(queue))
        self.source = RabbitMQSource(settings, queue, letters)

    def live_and_die(self, expected: int) -> list[Delivery]:
        partition: Any = self.source.build_part("in", self.source.list_parts()[0], None)
        taken: list[Delivery] = []
        deadline = time.monotonic() + 10
        while len(taken) < expected and time.monotonic() < deadline:
            taken += partition.next_batch()
            time.sleep(0.02)
        partition._consumer.close()
        partition._dead_letters.close()
        return taken


def test_a_rename_into_place_is_read_once(place: Place) -> None:
    place.database.drafts.insert_one({"_id": 1, "content": "x"})
    source = MongoChangeStreamSource(
        place.mongo_uri,
        place.database.name,
        TYPES,
        f"cdc_{place.name}",
        place.pipeline,
        publisher=NothingToPublish(),
    )
    partition = source.build_part("in", "changes", None)
    seen: list[CapturedChange] = []

    def read(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen.extend(partition.next_batch())
            time.sleep(0.02)

    deadline = time.monotonic() + 30
    while not any(change.op == "insert" for change in seen):  # until the first scan is over
        assert time.monotonic() < deadline
        place.database.articles.insert_one({})
        read(0.3)
    place.database.drafts.rename("posts")
    while not any(change.collection == "posts" for change in seen):
        assert time.monotonic() < deadline
        read(0.3)
    read(2)
    assert source.finish()
    source.close()
    rows = [change for change in seen if change.collection == "posts" and change.op == "snapshot"]
    assert [row.id for row in rows] == [1]


def test_what_was_not_acknowledged_comes_again_in_its_order(place: Place) -> None:
    """The order of equal versions, and of messages without one, is that of the queue."""
    channel = place.channel()
    for declaration in topology(place.queue):
        channel.queue_declare(**declaration)
    bodies = [str(number).encode() for number in range(10)]
    for body in bodies:
        channel.basic_publish("", place.queue, body)
    for _ in range(8):
        consumed = Consumed(place.rabbitmq, place.queue).live_and_die(len(bodies))
        assert [delivery.body for delivery in consumed] == bodies
    channel.connection.close()
