"""Another model for a store, while changes flow and processes are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from qdrant_client import models as q

from connectors.qdrant import (
    STORE_ERRORS,
    QdrantSettings,
    QdrantStore,
    open_client,
    open_reader,
    scan_points,
)
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.rabbitmq import dead_letter_queue, topology
from flows import backfill
from flows.comparison import Comparison
from flows.embedding.embedder import TextEmbedder
from flows.migrate import Migration
from flows.operators.publish import Submit
from flows.reconciliation import Report
from flows.settings import Settings
from models import DOCUMENT_TYPES, Message, Version, record_id
from models.errors import PlaceGoneError
from models.fresh import embedded_text
from models.places import Place as ModelPlace
from models.stored import Key, Stored
from retrieval.following import Searches
from retrieval.hits import Hit
from retrieval.sync import compare, stored_state
from tests.chaos.harness import Flows, Load
from tests.chaos.test_confirms import wait_until
from tests.conftest import Place
from tests.oracle import documents_of, fresh
from tests.processes import ROOT
from tests.two_models import NEW, OLD, embedder_of

DOCUMENTS = 40
QUERY = "vector store change"


def command(place: Place, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.two_models", *arguments],
        cwd=ROOT,
        env={**os.environ, **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def migration(place: Place) -> Iterator[Migration]:
    """The commands, in this process."""
    with closing(open_client(place.qdrant)) as client:
        yield Migration(Settings.from_env(place.environment), client, embedder_of)


def wrong(place: Place, model: str, at: str) -> list[str]:
    """How the place of a model differs from a fresh sync by that model."""
    embedder = embedder_of(model)
    with closing(open_client(place.qdrant)) as client:
        names = place.qdrant.collections.at(at)
        stored = stored_state(client, with_vectors=True, collections=names)
    return compare(fresh(documents_of(place.database), embedder), stored)


def settle(place: Place, flows: Flows, *sides: tuple[str, str], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while left := [line for side in sides for line in wrong(place, *side)]:
        flows.check()
        assert time.monotonic() < deadline, left[:20]
        time.sleep(0.3)


def documents(place: Place, at: str) -> int:
    """Records in a place."""
    names = place.qdrant.collections.at(at)
    try:
        with open_reader(place.qdrant) as client:
            return sum(client.count(names.cleaned(type_)).count for type_ in DOCUMENT_TYPES)
    except STORE_ERRORS:
        return 0


@contextmanager
def changing(load: Load) -> Iterator[None]:
    """Some edits and deletes a second."""
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.1):
            load.step()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


class Reader:
    """Searches all the time, and checks that each search was by one model."""

    def __init__(self, place: Place) -> None:
        self.models: list[str] = []
        self.failures: list[str] = []
        self._place = place
        self._done = threading.Event()

    @contextmanager
    def reading(self) -> Iterator["Reader"]:
        thread = threading.Thread(target=self._read)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()

    def wait_for(self, model: str) -> None:
        deadline = time.monotonic() + 10
        while self.models[-1:] != [model]:
            assert time.monotonic() < deadline, self.models[-5:]
            time.sleep(0.02)

    def _read(self) -> None:
        loaded: dict[str, TextEmbedder] = {}

        def of(place: ModelPlace | None) -> TextEmbedder:
            embedder = embedder_of(place.setting if place else OLD)
            return loaded.setdefault(embedder.name, embedder)

        with open_reader(self._place.qdrant) as store:
            searches = Searches(store, of, self._place.qdrant.collections)
            while not self._done.wait(0.1):
                try:
                    client = searches.client()
                    self._check(client.search(QUERY, limit=10), list(loaded.values()))
                except STORE_ERRORS:  # its server was killed: no search could be answered
                    continue
                except Exception as error:  # noqa: BLE001 (none may come)
                    self.failures.append(repr(error))

    def _check(self, hits: Sequence[Hit], embedders: Sequence[TextEmbedder]) -> None:
        """The similarity of each hit tells by which model it was found."""
        found = set()
        for hit in hits:
            if hit.dense is None:
                continue
            text = embedded_text({"content": hit.content, "context": hit.context})
            by = [one.name for one in embedders if similar(one, text, hit.dense)]
            found.add(by[0] if by else "none")
        if len(found) != 1 or "none" in found:
            self.failures.append(f"{len(hits)} hits by {sorted(found)}")
        self.models += found


def similar(embedder: TextEmbedder, text: str, score: float) -> bool:
    query, vector = embedder.encode([QUERY, text])
    return abs(float(query @ vector) - score) < 1e-3


def embedded(log: Path, model: str) -> Counter[str]:
    """How often each text was embedded."""
    lines = (line.split() for line in log.read_text().splitlines())
    return Counter(text for name, text in lines if name == model)


def test_a_migration_under_edits_deletes_and_kills_loses_nothing(place: Place) -> None:
    log = place.folder / "embedded"
    extra = {"EMBEDDED_LOG": str(log)}
    load = Load(place, 7, DOCUMENTS)
    load.insert_all()
    flows = Flows(place, features="tests.two_models", extra=extra)
    reader = Reader(place)
    with flows.both():
        settle(place, flows, (OLD, ""))
        with reader.reading(), changing(load):
            backfill = command(place, "start", NEW)
            wait_until("a part of the backfill", lambda: documents(place, "2") > 5)
            backfill.kill()
            assert backfill.wait() == -signal.SIGKILL
            flows.kill("features")
            wait_until("the flow goes on", lambda: documents(place, "2") > 15)
            flows.kill("qdrant")
            again = command(place, "start", NEW)
            said, _ = again.communicate(timeout=60)
            assert again.returncode == 0, said
            assert set(reader.models) == {"hashing"}
            with migration(place) as here:
                here.switch()
                reader.wait_for(NEW)
                began = time.monotonic()
                here.rollback()
                assert time.monotonic() - began < 1
                reader.wait_for("hashing")
                here.switch()
                reader.wait_for(NEW)
        settle(place, flows, (OLD, ""), (NEW, "2"))
        with migration(place) as here:
            here.remove()
        load.step()
        settle(place, flows, (NEW, "2"))
        assert set(flows.stop().values()) == {0}
    assert not reader.failures
    with open_reader(place.qdrant) as client:
        assert not client.collection_exists(place.qdrant.collections.vectors("posts"))
    times = embedded(log, NEW)
    assert sum(times.values()) <= 1.02 * len(times) + 256


def test_a_scan_of_a_place_that_is_removed_ends(tmp_path: Path) -> None:
    settings = QdrantSettings(path=tmp_path / "qdrant")
    names, removed = settings.collections.at("2"), []
    try:
        with closing(open_client(settings)) as client:
            QdrantStore(client, DOCUMENT_TYPES, names).ensure_collections(4)
            for start in range(0, 600, 100):
                some = [
                    q.PointStruct(
                        id=record_id("posts", str(n)), vector={}, payload={"entry_id": str(n)}
                    )
                    for n in range(start, start + 100)
                ]
                client.upsert(names.cleaned("posts"), some)
            points = scan_points(client, ["posts"], names, lambda: bool(removed))
            next(points)
            removed.append(True)
            client.delete_collection(names.cleaned("posts"))
            with pytest.raises(PlaceGoneError):
                list(points)
            with pytest.raises(PlaceGoneError):
                list(scan_points(client, ["posts"], names, lambda: True))
    finally:
        stop(StoreFolder(settings.path))


def test_a_migration_that_is_removed_while_it_compares_sends_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`remove` is how one ends a migration that is not wanted any more."""
    settings = Settings.from_env(place.environment)
    Load(place, 7, 30).insert_all()
    flows = Flows(place, features="tests.two_models")
    sent: list[Message] = []
    with flows.both(), closing(open_client(place.qdrant)) as client:
        settle(place, flows, (OLD, ""))
        look = Comparison.look

        def removed_before(comparison: Comparison, submit: Submit) -> Report:
            Migration(settings, client, embedder_of).remove()
            return look(comparison, lambda messages: (sent.extend(messages), submit(messages))[1])

        monkeypatch.setattr(Comparison, "look", removed_before)
        with pytest.raises(PlaceGoneError):
            Migration(settings, client, embedder_of).start(NEW)
        flows.stop()
    assert sent == []


def test_documents_in_the_hands_of_features_are_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker does not count them, and a model may take minutes for them."""
    settings = Settings.from_env(place.environment)
    channel = place.channel()
    for queue in topology(settings.queue, settings.partitions):
        channel.queue_declare(**queue)
    for _ in range(5):
        channel.basic_publish("", settings.queue, b"{}")
    held: list[object] = []
    features = place.channel()
    features.basic_qos(prefetch_count=1000)
    features.basic_consume(settings.queue, lambda *some: held.append(some))
    deadline = time.monotonic() + 20
    while len(held) < 5 and time.monotonic() < deadline:
        features.connection.process_data_events(0.1)
    assert len(held) == 5

    class Unfilled:
        def read(self, keys: Sequence[Key]) -> dict[Key, Stored]:
            return {key: Stored() for key in keys}

    class Well:
        def check(self) -> None: ...

    monkeypatch.setattr(backfill, "_STALLED_S", 0.5)
    filling = backfill.Backfill(settings, Unfilled(), Unfilled(), "2")  # type: ignore[arg-type]
    filling._sent.extend(
        backfill._Sent(settings.queue, Key("posts", str(n)), Version(1)) for n in range(5)
    )
    waiting = threading.Thread(target=lambda: filling._wait(Well(), 0), daemon=True)  # type: ignore[arg-type]
    waiting.start()
    waiting.join(3)
    assert waiting.is_alive(), "they are in hand"
    letters = dead_letter_queue(settings.queue)
    channel.basic_publish("", letters, b"{}")
    waiting.join(10)
    assert not waiting.is_alive(), "one of them is a dead letter"
    features.connection.close()
    channel.connection.close()
