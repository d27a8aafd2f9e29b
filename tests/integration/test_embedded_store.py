"""The server of the embedded store, as a process that is shared, killed, starved and replaced."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import grpc as wire
from qdrant_client import models as q
from qdrant_client.conversions.conversion import RestToGrpc

from connectors.qdrant import QdrantSettings, QdrantStore, open_client, open_reader, vectors_of
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.copying import Copy
from connectors.qdrant.embedded.description import Layout, read_description
from connectors.qdrant.embedded.engine import EngineError, Point, Shard
from connectors.qdrant.embedded.room import MIN_FREE_BYTES, DiskFullError
from connectors.qdrant.embedded.services import Services
from connectors.qdrant.patient import PatientClient
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from ops.qdrant_store import QdrantStoreServer
from tests.chaos.harness import ended, kill_store
from tests.processes import ROOT

DIMENSION = 32
POSTS = vectors_of("posts")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "qdrant"
    stop(StoreFolder(tmp_path / "qdrant"))


@pytest.fixture
def client(path: Path) -> Iterator[QdrantClient]:
    with closing(open_client(QdrantSettings(path=path))) as client:
        QdrantStore(client, DOCUMENT_TYPES).ensure_collections(DIMENSION)
        yield client


def point(number: int, text: str = "text") -> q.PointStruct:
    vector = np.random.default_rng(number).normal(size=DIMENSION).tolist()
    payload = {"entry_id": str(number), "model": "m", "text": text}
    return q.PointStruct(id=str(UUID(int=number + 1)), vector={"dense": vector}, payload=payload)


def texts(client: QdrantClient) -> dict[int, str]:
    found, after = [], None
    while True:
        page, after = client.scroll(POSTS, limit=500, offset=after)
        found += page
        if after is None:
            payloads = [record.payload or {} for record in found]
            return {int(payload["entry_id"]): payload["text"] for payload in payloads}


def wait_until(what: str, check: Callable[[], object], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def pid_of(path: Path) -> int:
    address = StoreFolder(path).address()
    assert address is not None
    return address.pid


def starts(path: Path) -> int:
    return (path / "server.log").read_text().count("serving")


@contextmanager
def written_to(client: QdrantClient) -> Iterator[list[int]]:
    """Upserts one point after the other for the length of a block; those acknowledged."""
    acknowledged: list[int] = []
    done = threading.Event()
    patient = PatientClient(client)

    def write() -> None:
        while not done.is_set():
            patient.upsert(POSTS, [point(len(acknowledged))])
            acknowledged.append(len(acknowledged))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        done.set()
        thread.join(60)
        assert not thread.is_alive()


def test_any_client_of_another_process_searches_while_it_is_written(
    client: QdrantClient, path: Path
) -> None:
    """It needs the three values of server.json, which only the owner of the folder can read."""
    file = path / "server.json"
    assert file.stat().st_mode & 0o777 == 0o600
    code = """
import json, sys
from qdrant_client import QdrantClient
at = json.load(open(sys.argv[1]))
client = QdrantClient(url=at["url"], grpc_port=at["grpc_port"], api_key=at["api_key"],
                      prefer_grpc=True, check_compatibility=False)
hits = client.query_points("vector_posts", query=[1.0] * 32, using="dense", limit=3).points
print(len(hits), client.count("vector_posts").count)
"""
    with written_to(client) as acknowledged:
        wait_until("some points", lambda: len(acknowledged) > 10)
        told = [
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, file],
                capture_output=True, text=True, check=True,
            ).stdout.split()
            for _ in range(2)
        ]  # fmt: skip
    assert [hits for hits, _ in told] == ["3", "3"]
    assert 10 < int(told[0][1]) < int(told[1][1]) <= len(acknowledged)


def test_nobody_without_the_key_is_answered(client: QdrantClient, path: Path) -> None:
    at = json.loads((path / "server.json").read_text())
    for key in (None, "", "wrong"):
        stranger = QdrantClient(
            url=at["url"], grpc_port=at["grpc_port"], api_key=key, prefer_grpc=True,
            check_compatibility=False,
        )  # fmt: skip
        with closing(stranger), pytest.raises(grpc.RpcError) as refused:
            stranger.count(POSTS)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_killed_server_loses_nothing_acknowledged_and_comes_back(
    client: QdrantClient, path: Path
) -> None:
    with written_to(client) as acknowledged:
        for _ in range(4):
            there = len(acknowledged)
            wait_until("some more", lambda n=there: len(acknowledged) > n + 50)  # type: ignore[misc]
            kill_store(path)
        there = len(acknowledged)
        wait_until("some more", lambda: len(acknowledged) > there)
    assert texts(client) == dict.fromkeys(acknowledged, "text")
    assert starts(path) == 5


def test_the_server_outlives_its_starter(path: Path) -> None:
    code = f"""
import sys, time; from pathlib import Path
from connectors.qdrant import QdrantSettings, open_client
client = open_client(QdrantSettings(path=Path({str(path)!r})))
print("open", flush=True); time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "open\n"
        pid = pid_of(path)
        with closing(open_client(QdrantSettings(path=path))) as client:
            starter.kill()
            starter.wait()
            time.sleep(0.6)
            assert client.get_collections().collections == []
            assert pid_of(path) == pid


def test_several_starters_at_once_get_one_server(path: Path) -> None:
    code = f"""
from pathlib import Path; from connectors.qdrant import QdrantSettings, open_client
client = open_client(QdrantSettings(path=Path({str(path)!r})))
print(client.get_collections().collections); client.close()
"""
    starters = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [starter.communicate(timeout=120)[0] for starter in starters] == ["[]\n"] * 4
    assert starts(path) == 1


def test_a_new_folder_is_prepared_by_several_at_once(tmp_path: Path) -> None:
    """Each took the half-written file of the others away, and ended with an error."""
    for number in range(100):
        folder, gate = StoreFolder(tmp_path / str(number)), threading.Barrier(4)

        def prepare(folder: StoreFolder = folder, gate: threading.Barrier = gate) -> None:
            gate.wait()
            folder.prepare()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(prepare) for _ in range(4)]:
                done.result()
        assert [file.name for file in folder.path.iterdir()] == ["format.json"]


def test_a_stale_address_misleads_nobody(client: QdrantClient, path: Path) -> None:
    """Somebody else listens by now where a killed server was."""
    client.upsert(POSTS, [point(1)])
    client.close()
    before = StoreFolder(path).address()
    assert before is not None
    kill_store(path)
    assert (path / "server.json").exists()
    with listener(before.grpc_port):
        with open_reader(QdrantSettings(path=path)) as reader:
            assert texts(reader) == {1: "text"}
        after = StoreFolder(path).address()
    assert after is not None
    assert after.grpc_port != before.grpc_port


@contextmanager
def listener(port: int) -> Iterator[None]:
    """Take the port of a server that dies at this moment."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with socket.create_server(("127.0.0.1", port)):
                yield
            return
        except OSError:
            assert time.monotonic() < deadline


def test_an_open_client_follows_its_server_to_another_port(
    client: QdrantClient, path: Path
) -> None:
    client.upsert(POSTS, [point(1)])
    address = StoreFolder(path).address()
    assert address is not None
    kill_store(path)
    patient = PatientClient(client)
    with listener(address.grpc_port):
        assert len(patient.payloads(POSTS, [str(point(1).id)])) == 1
    assert StoreFolder(path).address() != address


def test_it_ends_by_itself_when_its_last_user_has_gone(path: Path) -> None:
    with server_of(path, "--idle", "1") as process:
        with open_reader(QdrantSettings(path=path)):
            time.sleep(2.5)
            assert process.poll() is None
        assert process.wait(10) == 0
    assert not (path / "server.json").exists()


def test_an_inquiry_of_any_client_keeps_it_up(path: Path) -> None:
    with server_of(path, "--idle", "2") as process:
        at = json.loads((path / "server.json").read_text())
        del at["pid"]
        with closing(QdrantClient(**at, prefer_grpc=True, check_compatibility=False)) as client:
            for _ in range(8):
                client.get_collections()
                time.sleep(0.5)
            assert process.poll() is None
        assert process.wait(10) == 0


@contextmanager
def server_of(path: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "connectors.qdrant.embedded", "--data", path, *options]
    path.parent.mkdir(exist_ok=True)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until("its address", (path / "server.json").exists)
            yield process
        finally:
            process.kill()


def test_in_the_foreground_it_is_the_store_of_its_folder(path: Path) -> None:
    """`python -m ops.stack qdrant --data FOLDER`."""
    with QdrantStoreServer(path) as server:
        with open_reader(QdrantSettings(path=path)) as reader:
            assert reader.get_collections().collections == []
        assert server.process is not None
        assert pid_of(path) == server.process.pid
    assert not StoreFolder(path).is_served()


def test_a_server_whose_folder_is_gone_takes_no_more_writes(
    client: QdrantClient, path: Path
) -> None:
    client.upsert(POSTS, [point(1)])
    before = pid_of(path)
    path.rename(path.with_name("moved away"))
    wait_until("its end", lambda: ended(before))
    wait_until("an empty store", (path / "server.json").exists)
    with open_reader(QdrantSettings(path=path)) as reader:
        assert reader.get_collections().collections == []


def test_a_server_that_hangs_does_not_keep_anybody_from_ending(
    client: QdrantClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.qdrant.embedded.launch._STOP_S", 1.0)
    client.close()
    address = StoreFolder(path).address()
    assert address is not None
    os.kill(address.pid, signal.SIGSTOP)
    stop(StoreFolder(path))
    assert not StoreFolder(path).is_served()


def test_nobody_else_reads_the_folder_or_holds_its_locks(client: QdrantClient, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    for name in ("server.json", "server.lock", "users.lock"):
        assert (path / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("meta.json", '{"collections": {}, "aliases": {}}'),
        ("format.json", '{"store": "twinstream embedded", "format": 99}'),
        ("format.json", "{"),
        ("collections/x", ""),
    ],
)
def test_the_folder_of_another_version_is_refused_in_one_line(
    path: Path, file: str, text: str
) -> None:
    (path / file).parent.mkdir(parents=True)
    (path / file).write_text(text)
    with pytest.raises(ConfigurationError, match=r"QDRANT_PATH .+ make reconcile") as refused:
        open_client(QdrantSettings(path=path))
    assert len(str(refused.value).splitlines()) == 1
    assert not (path / "server.log").exists()


def resize(mounted: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", mounted], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk_refuses_writes_and_goes_on_when_there_is_room(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", path], check=True)
    try:
        with closing(open_client(QdrantSettings(path=path))) as client:
            QdrantStore(client, DOCUMENT_TYPES).ensure_collections(DIMENSION)
            disk = os.statvfs(path)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            resize(path, used + MIN_FREE_BYTES + 40 * 2**20)

            def fill() -> None:
                for number in range(2000):
                    client.upsert(POSTS, [point(number, "x" * 100_000)])

            with pytest.raises(grpc.RpcError, match="No space left on device") as refused:
                fill()
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            there = client.count(POSTS).count
            assert there > 10
            grow = threading.Timer(2, lambda: resize(path, 2**30))
            grow.start()
            PatientClient(client).upsert(POSTS, [point(5000)])
            grow.join()
            assert client.count(POSTS).count == there + 1
        said = [record.getMessage() for record in caplog.records]
        assert sum("Qdrant refuses, waiting: No space left" in line for line in said) == 1
        stop(StoreFolder(path))
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_rewriting_keeps_the_disk_bounded_and_the_points_as_they_are(
    client: QdrantClient, path: Path
) -> None:
    """An edit deletes chunks and writes others. The server is killed now and then, too."""
    patient = PatientClient(client)
    expected: dict[int, str] = {}
    sizes, generations = [], {1}
    for round_ in range(12):
        for start in range(0, 1000, 250):
            new = list(range(1000 * round_ + start, 1000 * round_ + start + 250))
            patient.upsert(POSTS, [point(number, f"{round_} {'x' * 3000}") for number in new])
            old = {number - 1000 for number in new if number % 50}
            patient.delete(POSTS, [str(point(number).id) for number in old if number >= 0])
            expected |= dict.fromkeys(new, f"{round_} {'x' * 3000}")
            expected = {number: text for number, text in expected.items() if number not in old}
        if round_ in (5, 8):
            time.sleep(0.5)
            kill_store(path)
        assert count_of(patient) == len(expected)
        sizes.append(segments(path))
        generations.add(generation(path))
    wait_until("it was rewritten", lambda: len(generations | {generation(path)}) > 1, 60)
    assert texts(client) == expected
    wait_until("a small folder", lambda: segments(path) < 3 * sizes[0] * len(expected) / 1000)
    kill_store(path)
    wait_until("it is back", lambda: count_of(patient) == len(expected))
    assert texts(client) == expected


def count_of(patient: PatientClient) -> int:
    return patient.call(lambda client: client.count(POSTS).count)


def generation(path: Path) -> int:
    return read_description(path / "collections" / POSTS)[1]


def segments(path: Path) -> int:
    """Bytes on the disk, but for the write-ahead log, which the engine bounds by itself."""
    told = subprocess.run(
        ["du", "-sk", "--exclude=wal", path / "collections" / POSTS],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True,
    )  # fmt: skip
    return int(told.stdout.split()[0])


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    sizes = {"dense": q.VectorParams(size=2, distance=q.Distance.COSINE)}
    collection = Collection.create(tmp_path / "collection", Layout(sizes, {}))
    collection.upsert([_point(n, {"dense": [1.0, n]}, {"n": n}) for n in range(1, 300)])
    yield collection
    collection.close()


def test_a_copy_that_is_abandoned_midway_leaves_the_collection_as_it_was(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an index that is made meanwhile, or by an error."""
    copy_all = collection._copy_all

    def then_an_index(copy: Copy) -> bool:
        copied = copy_all(copy)
        collection.index("n", "integer")
        return copied

    def then_an_error(copy: Copy) -> bool:
        copy_all(copy)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(collection, "_copy_all", then_an_index)
    assert not collection.rewrite()
    monkeypatch.setattr(collection, "_copy_all", then_an_error)
    with pytest.raises(OSError, match="No space"):
        collection.rewrite()
    assert sorted(file.name for file in collection._folder.iterdir()) == ["1", "collection.json"]
    assert collection.count() == 299


def test_what_changes_while_a_copy_is_made_is_in_it(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_all = collection._copy_all

    def then_changes(copy: Copy) -> bool:
        copied = copy_all(copy)
        collection.delete([7])
        collection.upsert([_point(8, {"dense": [0.0, 1.0]}, {"n": -8})])
        collection.upsert([_point(1000, {"dense": [0.0, 1.0]}, {"n": 1000})])
        return copied

    collection.index("n", "integer")
    monkeypatch.setattr(collection, "_copy_all", then_changes)
    assert collection.rewrite()
    found, _ = collection.scroll(None, 1000, None, True, True)
    assert {record.id: record.payload["n"] for record in found} == {
        **{number: number for number in range(1, 300) if number != 7}, 8: -8, 1000: 1000,
    }  # fmt: skip
    assert collection.indexes() == {"n": "integer"}
    collection.close()
    again = Collection(collection._folder)
    assert again.count() == 299
    again.close()


def test_a_point_that_is_written_amid_a_deletion_by_filter_stays(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old tombstones are pruned by a filter: one that is renewed at this moment must not go."""
    services = Services.__new__(Services)
    services._collections = {"c": collection}
    writers: list[threading.Thread] = []
    matching = collection.matching

    def slowly(only: q.Filter) -> list[Any]:
        found = matching(only)
        renewed = [_point(7, {"dense": [1.0, 7.0]}, {"n": 1000})]
        writers.append(threading.Thread(target=collection.upsert, args=(renewed,)))
        writers[0].start()
        writers[0].join(0.3)
        return found

    monkeypatch.setattr(collection, "matching", slowly)
    old = q.Filter(must=[q.FieldCondition(key="n", range=q.Range(lt=10))])
    selected = RestToGrpc.convert_points_selector(q.FilterSelector(filter=old))
    services.Delete(wire.DeletePoints(collection_name="c", points=selected), None)
    writers[0].join(10)
    [left] = collection.retrieve([6, 7, 9], True, False)
    assert left.payload == {"n": 1000}


def test_a_failed_flush_is_done_again(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def flush() -> None:
        flushed.append("once more")
        if len(flushed) == 1:
            raise EngineError("Input/output error")

    monkeypatch.setattr(collection._shard, "flush", flush)
    collection.flush()  # a second in which it is written
    assert not flushed
    with pytest.raises(EngineError):
        collection.flush()
    for _ in range(3):
        collection.flush()
    assert len(flushed) == 2


def test_writes_and_searches_do_not_wait_for_a_flush_each_second(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine holds Python's lock while it flushes; the log alone makes a write last."""
    calls: list[str] = []
    sync, flush = collection._shard.sync, collection._shard.flush
    monkeypatch.setattr(collection._shard, "sync", lambda: calls.append("sync") or sync())
    monkeypatch.setattr(collection._shard, "flush", lambda: calls.append("flush") or flush())
    for number in range(3):
        collection.upsert([_point(number, {"dense": [1.0, 1.0]}, {})])
        collection.flush()
    assert calls == ["sync"] * 3
    collection.flush()
    collection.flush()
    assert calls == ["sync"] * 3 + ["flush"]


@pytest.mark.parametrize(
    ("name", "value"), [("_UNFLUSHED", 1), ("_LOG_BYTES", 1), ("_FLUSHED_WITHIN_S", 0.0)]
)
def test_what_a_start_reads_of_the_log_is_bounded(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(f"connectors.qdrant.embedded.collection.{name}", value)
    flushed: list[None] = []
    monkeypatch.setattr(collection._shard, "flush", lambda: flushed.append(None))
    collection.upsert([_point(1, {"dense": [1.0, 1.0]}, {})])
    collection.flush()
    assert flushed


def test_a_full_disk_refuses_a_new_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr("connectors.qdrant.embedded.room.os.statvfs", lambda _: full)
    with pytest.raises(DiskFullError, match="No space left on device"):
        Collection.create(tmp_path / "c", Layout({}, {}))
    assert not (tmp_path / "c").exists()


def test_no_copy_is_begun_that_would_fill_the_disk(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writers would be refused until it has failed and is removed."""
    free = MIN_FREE_BYTES // 4096 + 1
    nearly_full = os.statvfs_result((4096, 4096, 0, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr("connectors.qdrant.embedded.room.os.statvfs", lambda _: nearly_full)
    collection.upsert([_point(1, {"dense": [1.0, 1.0]}, {"n": 1})])
    with pytest.raises(DiskFullError, match="No space left on device"):
        collection.rewrite()
    assert collection.count() == 299


def test_a_stray_file_beside_the_collections_keeps_no_store_down(tmp_path: Path) -> None:
    tmp_path.joinpath(".DS_Store").touch()
    services = Services(tmp_path)
    assert services.collections == []
    services.close()


def test_every_form_of_an_id_reaches_the_copy(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UUID without dashes, of which all digits are decimal, was taken for a number."""
    id_ = UUID("12345678-1234-5678-1234-567812345678")
    collection.upsert([_point(str(id_), {"dense": [1.0, 0.0]}, {"n": "old"})])
    switch = collection._switch

    def after_a_change(*arguments: Any) -> bool:
        collection.upsert([_point(id_.hex, {"dense": [1.0, 0.0]}, {"n": "new"})])
        collection.delete([5])
        return switch(*arguments)

    monkeypatch.setattr(collection, "_switch", after_a_change)
    assert collection.rewrite()
    [found] = collection.retrieve([str(id_), 5], True, False)
    assert found.payload == {"n": "new"}


def test_a_copy_that_cannot_be_begun_leaves_nothing_behind(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on to remember each changed id, for ever."""

    def create(*_: Any) -> Any:
        raise EngineError("Input/output error")

    monkeypatch.setattr(Shard, "create", create)
    with pytest.raises(EngineError):
        collection.rewrite()
    assert collection._copy is None
    assert sorted(file.name for file in collection._folder.iterdir()) == ["1", "collection.json"]


def test_a_disk_that_fails_after_the_switch_takes_no_generation_away(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the description named was deleted when a note about it could not be written."""

    def sick(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("connectors.qdrant.embedded.description.os.open", sick)
        patch.setattr(Path, "write_text", sick)
        assert collection.rewrite()
        assert collection.count() == 299
    collection.upsert([_point(1000, {"dense": [0.0, 1.0]}, {"n": 1000})])
    collection.close()
    again = Collection(collection._folder)
    assert again.count() == 300
    again.close()


def test_the_vectors_of_a_large_collection_are_indexed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.qdrant.embedded.collection.INDEXED_FROM", 8000)
    sizes = {"dense": q.VectorParams(size=384, distance=q.Distance.COSINE)}
    collection = Collection.create(tmp_path / "collection", Layout(sizes, {}))
    rows = np.random.default_rng(1).normal(size=(8600, 384)).astype(np.float32)

    def write(start: int, end: int, text: str) -> None:
        some = [_point(n + 1, {"dense": rows[n].tolist()}, {"t": text}) for n in range(start, end)]
        collection.upsert(some)

    for start in range(0, 8000, 500):
        assert not collection.is_worn
        write(start, start + 500, "old")
    collection.flush()
    assert not collection.is_worn, "while it is filled"
    for _ in range(10):
        collection.flush()
    assert collection.is_worn
    index = Copy.index
    problems = []

    def while_it_is_written(copy: Copy) -> str:
        with ThreadPoolExecutor(1) as one:
            indexing = one.submit(index, copy)
            write(7000, 8600, "new")
            collection.delete(list(range(1, 101)))
            problems.append(indexing.result())
            return problems[0]

    monkeypatch.setattr(Copy, "index", while_it_is_written)
    assert collection.rewrite()
    assert problems == [""]
    assert not collection.is_worn
    assert collection._shard._shard.info().indexed_vectors_count >= 8000
    assert collection.count() == collection.size == 8500
    texts_ = [r.payload["t"] for r in collection.scroll(None, 9000, None, True, False)[0]]
    assert texts_ == ["old"] * 6900 + ["new"] * 1600
    for number in (200, 5000, 7500, 8599):
        query = q.QueryRequest(
            query=q.NearestQuery(nearest=rows[number].tolist()), using="dense", limit=1
        )
        assert collection.query([query])[0][0].id == number + 1
    collection.close()


def test_vectors_that_cannot_be_indexed_are_searched_nevertheless(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("connectors.qdrant.embedded.collection.INDEXED_FROM", 200)
    monkeypatch.setattr("connectors.qdrant.embedded.index.sys.executable", "/bin/false")
    assert collection.is_worn
    assert collection.rewrite()
    assert "the vectors were not indexed" in caplog.text
    assert not collection.is_worn, "tried again and again"
    assert collection.count() == 299


def test_the_process_that_indexes_ends_with_the_server() -> None:
    """The engine holds Python's lock meanwhile, so no thread of it could look."""
    held = (
        "from connectors.qdrant.embedded.index import _end_with; import re; _end_with(0);"
        "print('begun', flush=True); re.match('(?:a+)+b', 'a' * 100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(0.3)
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(20) == -signal.SIGIO
        finally:
            process.kill()


def _point(id_: int | str, vectors: dict[str, Any], payload: dict[str, Any]) -> Point:
    return Point(id_, vectors, payload)


def test_what_it_does_not_have_is_said_and_not_done_otherwise(client: QdrantClient) -> None:
    client.upsert(POSTS, [point(1)])
    some = q.Filter(min_should=q.MinShould(conditions=[], min_count=1))
    for call in (
        lambda: client.scroll(POSTS, order_by=q.OrderBy(key="text")),
        lambda: client.count(POSTS, some),
        lambda: client.create_collection("x", q.VectorParams(size=2, distance=q.Distance.DOT)),
        lambda: client.query_points(POSTS, query=q.SampleQuery(sample=q.Sample.RANDOM)),
        client.get_aliases,
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not client.collection_exists("x")


def test_dense_and_sparse_vectors_are_fused(client: QdrantClient) -> None:
    client.create_collection(
        "both",
        {"dense": q.VectorParams(size=2, distance=q.Distance.COSINE)},
        sparse_vectors_config={"words": q.SparseVectorParams(modifier=q.Modifier.IDF)},
    )
    rows = {1: ([1.0, 0.0], [1]), 2: ([0.9, 0.1], [2]), 3: ([0.0, 1.0], [3, 4])}
    client.upsert(
        "both",
        [
            q.PointStruct(
                id=id_,
                vector={
                    "dense": dense,
                    "words": q.SparseVector(indices=words, values=[1.0] * len(words)),
                },
                payload={},
            )
            for id_, (dense, words) in rows.items()
        ],
    )
    query = q.SparseVector(indices=[2], values=[1.0])
    fused = client.query_points(
        "both",
        prefetch=[
            q.Prefetch(query=[1.0, 0.0], using="dense", limit=3),
            q.Prefetch(query=query, using="words", limit=3),
        ],
        query=q.FusionQuery(fusion=q.Fusion.RRF),
        limit=3,
    ).points
    assert fused[0].id == 2
    [record] = client.retrieve("both", [3], with_vectors=True)
    assert isinstance(record.vector, dict)
    assert record.vector["words"] == q.SparseVector(indices=[3, 4], values=[1.0, 1.0])


def test_a_killed_process_is_told_from_a_living_one() -> None:
    assert not ended(os.getpid())
    assert ended(2**22 + 1)
