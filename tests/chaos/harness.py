"""A load of writes, flows as real processes, and a killer among them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
from bson import ObjectId
from pymongo.errors import AutoReconnect, DuplicateKeyError

from connectors.qdrant.embedded import StoreFolder
from connectors.rabbitmq import dead_letter_queue
from ops.local_server import free_port
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.oracle import differences, kinds_of_difference
from tests.processes import FlowProcess

FEATURES = "tests.hashing_features"
WORDS = (
    *("vector", "store", "change", "stream", "queue", "chunk", "token", "broker", "epoch"),
    *("résumé", "世界", "данные", "نص", "code"),
)


class Load:
    """Inserts, updates, replaces, deletes and re-inserts documents of all types.

    :param seed: the same seed writes the same history
    """

    def __init__(self, place: Place, seed: int, documents: int) -> None:
        self._database = place.database
        self._random = random.Random(seed)
        self._ids: list[tuple[str, Any]] = [
            (self._random.choice(["posts", "articles", "repositories"]), self._id(number))
            for number in range(documents)
        ]
        self.writes = 0

    def insert_all(self) -> None:
        """Write every document once."""
        for type_, id_ in self._ids:
            self._write(lambda t=type_, i=id_: self._replace(t, i))  # type: ignore[misc]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Write at random, from another thread, for the length of a block."""
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                self.step()
                time.sleep(0.01)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            done.set()
            writer.join()

    def step(self) -> None:
        """One random write."""
        type_, id_ = self._random.choice(self._ids)
        kinds = ["replace", "update", "delete", "twice", "foreign"]
        kind = self._random.choices(kinds, [4, 3, 2, 1, 1])[0]
        if kind == "foreign":  # a collection that is not registered
            type_, kind = "drafts", "replace"
        if kind == "delete":
            self._write(lambda: self._database[type_].delete_one({"_id": id_}))
        elif kind == "update":
            change = {"$set": {"platform": self._text(1), "content.extra": self._text(30)}}
            self._write(lambda: self._database[type_].update_one({"_id": id_}, change))
        elif kind == "twice":
            self._write(lambda: self._replace(type_, id_))
            self._write(lambda: self._database[type_].delete_one({"_id": id_}))
            self._write(lambda: self._replace(type_, id_))
        else:
            self._write(lambda: self._replace(type_, id_))

    def _write(self, write: Any) -> None:
        for _ in range(600):
            try:
                write()
                self.writes += 1
                return
            except DuplicateKeyError:
                continue
            except AutoReconnect:  # the server is being restarted by the same test
                time.sleep(0.1)
        raise AssertionError("MongoDB did not come back")

    def _replace(self, type_: str, id_: Any) -> None:
        document = {
            "platform": "x",
            "link": f"https://example.org/{id_}",
            "author_id": "me",
            "owner_id": "me",
            "name": "n",
            "content": {
                name: self._text(self._random.randint(5, 400))
                for name in self._random.sample(["Title", "Content", "a.py", "b/c.md"], 2)
            },
        }
        self._database[type_].replace_one({"_id": id_}, document, upsert=True)

    def _id(self, number: int) -> Any:
        return self._random.choice(
            [number, f"id/{number}", ObjectId(f"{number:024x}"), {"n": number}, float(number) + 0.5]
        )

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(WORDS, k=words)) + ".\n\n" * (words % 2)


@dataclass
class Flows:
    """Both flows of one place, restartable at will.

    :param recovery: run with a Bytewax recovery directory
    :param workers: `-w` of the features flow
    :param bare: no `-s 1`: epochs of ten seconds
    :param capture_processes: processes of the capture flow, as one Bytewax cluster
    :param features_processes: the same of the features flow
    :param standby: the processes of the features flow are no cluster: each may take over any queue
    :param capture_standby: those of the capture flow are none either: one owns the pipeline
    """

    place: Place
    partitions: int = 1
    workers: int = 1
    capture_processes: int = 1
    features_processes: int = 1
    standby: bool = False
    capture_standby: bool = False
    bare: bool = False
    recovery: bool = False
    features: str = FEATURES
    kills: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    running: dict[str, FlowProcess] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    extra_of: dict[str, dict[str, str]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start `cdc` or `features` by its bare command."""
        count = self.capture_processes if name == "cdc" else self.features_processes
        if count == 1:
            self._start(name, [])
            return
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(count))
        for index in range(count):
            clustered = ["-i", str(index), "-a", addresses]
            self._start(f"{name}-{index}", [] if self._stands_by(name) else clustered)

    def _stands_by(self, name: str) -> bool:
        return self.capture_standby if name.startswith("cdc") else self.standby

    def _start(self, name: str, arguments: list[str]) -> None:
        module = self.features if name.startswith("features") else "flows.cdc"
        if not self.bare:
            arguments = [*arguments, "-s", "1"]
        if self.recovery:
            folder = self.place.folder / f"recovery-{name.split('-', maxsplit=1)[0]}"
            if not folder.exists():
                folder.mkdir()
                command = [sys.executable, "-m", "bytewax.recovery", str(folder), "1"]
                subprocess.run(command, check=True)
            arguments += ["-r", str(folder), "-b", "0"]
        if name.startswith("features") and self.workers > 1:
            arguments += ["-w", str(self.workers)]
        environment = {
            **self.place.environment,
            "RABBITMQ_PARTITIONS": str(self.partitions),
            **self.extra,
            **self.extra_of.get(name, {}),
        }
        log = self.place.folder / f"{name}.log"
        self.running[name] = FlowProcess(module, environment, log, arguments)

    def kill(self, name: str) -> None:
        """SIGKILL `cdc`, `features` or `qdrant`, proven by the exit code, and start again.

        Of several processes one, at random. Without it a cluster is dead, though its other
        processes may need a moment to find out: that moment they have, then they are killed too.
        """
        if name == "qdrant":
            self.kills[name] += 1
            if self.place.server is None:
                kill_store(self.place.qdrant.path)  # its users start it again
                return
            self.place.server.kill()
            time.sleep(self.chance.uniform(0, 1))
            self.place.server.start()
            return
        group = [one for one in self.running if one.split("-")[0] == name]
        victim = self.chance.choice(group)
        self.running[victim].kill()
        self.kills[name] += 1
        time.sleep(self.chance.uniform(0, 1) if len(group) > 1 else 0)
        if self._stands_by(name) and len(group) > 1:
            self._start(victim, [])
            return
        for other in group:
            if self.running[other].running:
                self.running[other].kill()
                self.kills[name] += 1
        self.start(name)

    def check(self) -> None:
        """Fails when a flow has ended by itself."""
        for process in self.running.values():
            process.check()

    def stop(self) -> dict[str, int]:
        """SIGTERM both; their exit codes."""
        for process in self.running.values():
            process.wait_ready()
        for process in self.running.values():
            process.process.terminate()
        return {name: process.wait(15) for name, process in self.running.items()}

    @contextlib.contextmanager
    def both(self) -> Iterator[None]:
        """Run both flows for the length of a block."""
        try:
            self.start("cdc")
            self.start("features")
            yield
        finally:
            for process in self.running.values():
                process.end()


@dataclass(frozen=True)
class Outcome:
    """The result of one round of kills."""

    kills: int
    documents: int
    writes: int
    lost: int
    stale: int
    resurrected: int
    duplicated: int
    dead_letters: int

    @property
    def wrong(self) -> int:
        """Points that differ, and documents that were given up."""
        return self.lost + self.stale + self.resurrected + self.duplicated + self.dead_letters


def kill_round(
    place: Place,
    flows: Flows,
    seed: int,
    *,
    kills: int,
    documents: int = 60,
    victims: Sequence[str] = ("cdc", "features"),
    gap: tuple[float, float] = (0.3, 3.0),
    timeout: float = 90,
) -> Outcome:
    """Kill flows at random moments under load, then wait until all is in sync.

    :returns: what still differed at the end, of which every number should be 0
    """
    chance = random.Random(seed)
    load = Load(place, seed, documents)
    load.insert_all()
    with flows.both():
        with load.running():
            for _ in range(kills):
                time.sleep(chance.uniform(*gap))
                flows.check()
                flows.kill(chance.choice(list(victims)))
        settle(place, flows, timeout)
        left = kinds_of_difference(place.database, place.qdrant, HashingEmbedder())
        codes = flows.stop()
    assert set(codes.values()) == {0}, codes
    return Outcome(
        kills=sum(flows.kills.values()),
        documents=documents,
        writes=load.writes,
        lost=left["lost"],
        stale=left["stale"],
        resurrected=left["resurrected"],
        duplicated=left["duplicated"],
        dead_letters=queue_depth(place, dead_letter_queue(place.queue)),
    )


def settle(place: Place, flows: Flows, timeout: float) -> list[str]:
    """Wait for sync; what still differs after the timeout."""
    embedder = HashingEmbedder()
    deadline = time.monotonic() + timeout
    while left := differences(place.database, place.qdrant, embedder):
        flows.check()
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return left


def kill_store(path: Path, within: float = 60) -> int:
    """SIGKILL the server of an embedded store, which is running or about to; its process id."""
    folder, deadline = StoreFolder(path), time.monotonic() + within
    while True:
        address = folder.address()
        if address is not None and folder.is_served():
            with contextlib.suppress(ProcessLookupError):  # the file is of one killed before
                os.kill(address.pid, signal.SIGKILL)
                break
        assert time.monotonic() < deadline, "nobody serves the embedded store"
        time.sleep(0.02)
    while not ended(address.pid):
        assert time.monotonic() < deadline, "it survived SIGKILL"
        time.sleep(0.002)
    return address.pid


def ended(pid: int) -> bool:
    """Whether a process is gone, but for an entry that its parent has not taken yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def queue_depth(place: Place, queue: str) -> int:
    """Messages that are ready in a queue; 0 where there is no such queue."""
    connection = pika.BlockingConnection(place.rabbitmq.parameters())
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker:
        return 0
    finally:
        connection.close()
