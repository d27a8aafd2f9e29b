"""SIGTERM drains and exits 0 within ten seconds under load, whatever is away; bad settings are one
line."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.local_server import free_port
from tests.chaos.harness import Flows, Load, queue_depth, settle
from tests.chaos.proxy import Proxy
from tests.conftest import Place
from tests.processes import ROOT, FlowProcess


@pytest.mark.parametrize("interval", ["1", "10"])
def test_sigterm_drains_under_load(place: Place, interval: str) -> None:
    """Also with the bare command's epochs of ten seconds, what was written is acknowledged."""
    load = Load(place, seed=3, documents=300)
    load.insert_all()
    flows = Flows(place, bare=True, extra={"BYTEWAX_SNAPSHOT_INTERVAL": interval})
    with flows.both():
        time.sleep(3)
        started = time.monotonic()
        assert flows.running["cdc"].terminate() == 0
        assert flows.running["features"].terminate() == 0
        assert time.monotonic() - started < 10
        flows.start("cdc")
        flows.start("features")
        assert settle(place, flows, 60) == []
        assert set(flows.stop().values()) == {0}
    assert queue_depth(place, place.queue) == 0


def test_the_end_of_the_flows_gives_up_all_that_was_written(place: Place) -> None:
    """Within an epoch of a minute nothing else has acknowledged it, or stored its position."""
    Load(place, seed=5, documents=40).insert_all()
    flows = Flows(place, bare=True, extra={"BYTEWAX_SNAPSHOT_INTERVAL": "120"})
    with flows.both():
        assert settle(place, flows, 90) == []
        position = place.checkpoints.find_one({"_id": place.pipeline}) or {}
        assert position["phase"] == "snapshot", "nothing was stored before the end"
        assert set(flows.stop().values()) == {0}
    time.sleep(1)  # until the broker has taken back what was not acknowledged
    assert queue_depth(place, place.queue) == 0
    position = place.checkpoints.find_one({"_id": place.pipeline}) or {}
    assert (position["phase"], position["scans"]) == ("stream", [])


def test_sigterm_while_the_broker_is_away_ends_in_time(place: Place) -> None:
    with Proxy(place.rabbitmq.port) as proxy:
        flows = Flows(place, extra={"RABBITMQ_PORT": str(proxy.port)})
        Load(place, seed=3, documents=50).insert_all()
        with flows.both():
            time.sleep(3)
            proxy.refuse(True)
            proxy.cut()
            Load(place, seed=4, documents=50).insert_all()
            time.sleep(1)
            started = time.monotonic()
            assert set(flows.stop().values()) == {0}
            assert time.monotonic() - started < 20


NOWHERE = {"MONGO_DATABASE_HOST": "mongodb://127.0.0.1:1", "RABBITMQ_PORT": "1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_its_cluster_ends_at_once(tmp_path: Path, number: int) -> None:
    """Its main thread is in Bytewax, where no handler of Python runs."""
    waiting = ["-i", "0", "-a", f"127.0.0.1:{free_port()};127.0.0.1:{free_port()}"]
    with FlowProcess("flows.cdc", NOWHERE, tmp_path / "cdc.log", waiting) as flow:
        flow.wait_ready()
        time.sleep(1)
        flow.check()
        flow.process.send_signal(number)
        assert flow.process.wait(3) == 0
        assert "nothing is in flight yet" in flow.output()


def test_a_process_without_a_source_does_not_leave_its_cluster_first(place: Place) -> None:
    """The one with the source was draining, and panicked."""
    flows = Flows(place, capture_processes=2)
    Load(place, seed=3, documents=200).insert_all()
    flows.start("cdc")
    try:
        while queue_depth(place, place.queue) == 0:
            flows.check()
            time.sleep(0.1)
        assert set(flows.stop().values()) == {0}
    finally:
        for process in flows.running.values():
            process.end()
    assert not any("panicked" in process.output() for process in flows.running.values())


def test_sigterm_while_the_model_is_loaded_ends_at_once(tmp_path: Path) -> None:
    with FlowProcess("tests.slow_to_load", NOWHERE, tmp_path / "features.log") as flow:
        flow.wait_ready()
        while "loading" not in flow.output():
            flow.check()
            time.sleep(0.05)
        flow.process.terminate()
        assert flow.process.wait(3) == 0
        assert "nothing is in flight yet" in flow.output()


SETTINGS = {
    "MONGO_DATABASE_HOST": "mongodb//nowhere",
    "RABBITMQ_PORT": "many",
    "RABBITMQ_PARTITIONS": "0",
    "RABBITMQ_TLS": "perhaps",
    "QDRANT_URL": "localhost:6333",
    "EMBEDDING_MODEL": "/no/such/model",
    "CDC_SNAPSHOT": "sometimes",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_one_line_and_exit_code_1(name: str) -> None:
    for module in ("flows.cdc", "flows.features", "flows.pipeline"):
        result = subprocess.run(
            [sys.executable, "-m", "bytewax.run", module],
            cwd=ROOT,
            env={**os.environ, name: SETTINGS[name]},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 1
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert name in lines[0]


def test_a_queue_with_other_arguments_is_one_line_and_exit_code_1(place: Place) -> None:
    channel = place.channel()
    channel.queue_declare(place.queue, durable=True)
    result = subprocess.run(
        [sys.executable, "-m", "bytewax.run", "tests.hashing_features"],
        cwd=ROOT,
        env={**os.environ, **place.environment, "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "RABBITMQ_QUEUE_NAME" in result.stderr
    assert "Traceback" not in result.stderr


def test_fewer_partitions_than_the_recovery_directory_remembers_is_one_line(place: Place) -> None:
    """It was a panic at each start."""

    def run(partitions: int) -> FlowProcess:
        flows = Flows(place, partitions=partitions, recovery=True)
        flows.start("features")
        return flows.running["features"]

    def wait_remembered(flow: FlowProcess, queue: str) -> None:
        query = "SELECT count(*) FROM snaps WHERE state_key = ?"
        [file] = (place.folder / "recovery-features").glob("*.sqlite3")
        deadline = time.monotonic() + 30
        while not sqlite3.connect(file).execute(query, [queue]).fetchone()[0]:
            flow.check()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    with run(3) as flow:
        wait_remembered(flow, f"{place.queue}.2")
        assert flow.terminate() == 0
    with run(2) as flow:
        assert flow.process.wait(60) == 1
        told = flow.output().splitlines()[-1]
        assert f"{place.queue}.2" in told
        assert "python -m bytewax.recovery" in told
        assert "panicked" not in flow.output()
    with run(4) as flow:
        wait_remembered(flow, f"{place.queue}.3")
        assert flow.terminate() == 0


@pytest.mark.parametrize("module", ["flows.cdc", "flows.features", "flows.pipeline"])
def test_a_recovery_directory_that_is_none_is_one_line(module: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bytewax.run", module, "-s", "1", "-b", "0", "-r", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **NOWHERE, "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert str(tmp_path) in line
