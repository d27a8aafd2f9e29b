"""What fails in the server of the embedded store: the engine, a disk, a copy, a start."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import grpc as wire

from connectors.qdrant import QdrantSettings, open_client
from connectors.qdrant.embedded import StoreFolder, collection, server, stop
from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.description import Layout
from connectors.qdrant.embedded.engine import EngineFailedError, Point, Shard
from connectors.qdrant.embedded.guard import status_of
from connectors.qdrant.embedded.room import DiskFullError, size_of
from connectors.qdrant.embedded.services import Services
from models.errors import StoreUnavailableError

POINTS = 300


class PanicException(BaseException):
    """What an engine in Rust raises, by its name."""


def panics(*_: object) -> None:
    raise PanicException("index out of bounds")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Collection]:
    made = Collection.create(tmp_path / "c", Layout({}, {}))
    made.upsert([Point(number, {}, {"n": number}) for number in range(POINTS)])
    yield made
    made.close()


def test_a_panic_is_an_error_that_is_answered_and_waited_for(filled: Collection) -> None:
    class Broken:
        count = info = panics

    filled._shard._shard, sound = Broken(), filled._shard._shard
    with pytest.raises(EngineFailedError) as failed:
        filled.count()
    assert status_of(failed.value)[0].name == "INTERNAL"
    filled._shard._shard = sound


def test_a_panic_after_the_switch_takes_no_generation_away(
    filled: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Closing:
        def __init__(self, sound: Any) -> None:
            self._sound = sound

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sound, name)

        def close(self) -> None:
            self._sound.close()
            panics()

    filled._shard._shard = Closing(filled._shard._shard)
    assert filled.rewrite()
    assert filled.count() == POINTS
    filled.close()
    with closing(Collection(tmp_path / "c")) as again:
        assert again.count() == POINTS


def test_a_generation_that_does_not_load_costs_no_other_one(
    filled: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filled.close()
    (tmp_path / "c" / "7").mkdir()
    monkeypatch.setattr(Shard, "load", panics)
    with pytest.raises(PanicException):
        Collection(tmp_path / "c")
    assert {file.name for file in (tmp_path / "c").iterdir()} >= {"1", "7"}


def test_maintenance_goes_on_after_a_panic(monkeypatch: pytest.MonkeyPatch) -> None:
    class Some:
        collections = (None,)

    called: list[None] = []

    def fails(_: object) -> None:
        called.append(None)
        raise EngineFailedError("index out of bounds")

    monkeypatch.setattr(server, "_FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(Collection, "flush", fails)
    monkeypatch.setattr(server, "_rewrite_worn", fails)
    maintenance = server.Maintenance(Some())  # type: ignore[arg-type]
    deadline = time.monotonic() + 10
    while len(called) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(thread.is_alive() for thread in maintenance._threads)
    maintenance.end()
    assert len(called) >= 5


def test_an_id_that_is_refused_gives_up_no_copy(tmp_path: Path) -> None:
    services = Services(tmp_path / "collections")
    made = wire.VectorsConfig(params_map=wire.VectorParamsMap())
    services.Create(wire.CreateCollection(collection_name="c", vectors_config=made), None)
    points = [wire.PointStruct(id=wire.PointId(num=number)) for number in range(POINTS)]
    services.Upsert(wire.UpsertPoints(collection_name="c", points=points), None)
    [written] = services.collections
    switch = written._switch

    def refused_before(*given: Any) -> bool:
        ids = wire.PointsIdsList(ids=[wire.PointId(uuid="zz")])
        selected = wire.PointsSelector(points=ids)
        with pytest.raises(Exception, match=r"zz|UUID|uuid"):
            services.Delete(wire.DeletePoints(collection_name="c", points=selected), None)
        return switch(*given)

    written._switch = refused_before  # type: ignore[method-assign]
    assert written.rewrite()
    assert written.count() == POINTS
    services.close()


def test_a_copy_leaves_the_last_room_to_the_writes(
    filled: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked: list[int] = []

    def room(_: Path, more: int = 0) -> None:
        looked.append(more)
        if len(looked) == 3:  # once before it is begun, then at its second page
            raise DiskFullError("No space left on device")

    monkeypatch.setattr(collection, "check_room", room)
    with pytest.raises(DiskFullError):
        filled.rewrite()
    assert sorted(file.name for file in (tmp_path / "c").iterdir() if file.is_dir()) == ["1"]
    assert filled.count() == POINTS


def test_the_log_of_a_copy_is_shortened_while_it_is_made(
    filled: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes: list[int] = []
    flush = Shard.flush
    monkeypatch.setattr(Shard, "flush", lambda shard: (flushes.append(1), flush(shard))[1])
    monkeypatch.setattr(collection, "_FLUSHED_IN_A_COPY", 100)
    assert filled.rewrite()
    assert len(flushes) > 3  # two are of the switch


def test_a_start_brings_to_the_disk_what_a_killed_server_has_left(filled: Collection) -> None:
    log = filled._folder / "1" / "wal"
    filled.flush()  # the first one only notes that there are writes
    filled._shard.sync()
    again = Collection.__new__(Collection)
    filled._closed = True  # as after a kill: nothing is flushed any more
    del filled._shard
    again.__init__(filled._folder)  # type: ignore[misc]
    flushed: list[int] = []
    again._shard.flush, flush = lambda: (flushed.append(1), flush())[1], again._shard.flush  # type: ignore[method-assign]
    again.flush()
    assert flushed
    assert size_of(log) >= 0
    again.close()


def test_a_proxy_of_the_environment_does_not_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "qdrant"
    try:
        with closing(open_client(QdrantSettings(path=path), timeout=10)) as client:
            assert client.get_collections().collections == []
    finally:
        stop(StoreFolder(path))


def test_a_store_that_does_not_start_is_tried_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "qdrant"
    tried: list[float] = []

    def fails(_: object) -> None:
        tried.append(time.monotonic())
        raise StoreUnavailableError("no")

    try:
        with closing(open_client(QdrantSettings(path=path))) as client:
            monkeypatch.setattr(client, "_look", lambda: fails(None))
            time.sleep(4)
            assert 2 <= len(tried) <= 6
    finally:
        stop(StoreFolder(path))
    assert threading.active_count() < 50
