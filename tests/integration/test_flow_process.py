"""The launcher of flows: ready, drained, killed, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.flow_process import ROOT, FlowEndedError, FlowProcess, FlowProcesses
from tests.integration.test_stack import assert_nothing_runs, needs_proc, processes_of

IDLE = """
import signal
import threading

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.testing import TestingSink

stopping = threading.Event()


class Quiet(StatelessSourcePartition):
    def next_batch(self):
        if stopping.wait(0.02):
            print("drained", flush=True)
            raise StopIteration
        return []


class Source(DynamicSource):
    def build(self, step_id, worker_index, worker_count):
        return Quiet()


def flow():
    quiet = Dataflow("idle")
    op.output("out", op.input("in", quiet, Source()), TestingSink([]))
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    print("ready: SIGTERM ends this flow in good order", flush=True)
    return quiet
"""
LAUNCHER = """
import os, signal, sys, time
from pathlib import Path
from ops.flow_process import FlowProcess, FlowProcesses

folder = Path(sys.argv[1])
with FlowProcesses({"one": "idle", "two": "idle"}, {"PYTHONPATH": str(folder)}, folder):
    if sys.argv[2] == "at once":
        os.kill(os.getpid(), signal.SIGKILL)
    print("up", flush=True)
    time.sleep(60)
"""


def check_for(flows: FlowProcesses, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        flows.check()
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "idle.py").write_text(IDLE)
    (tmp_path / "broken.py").write_text("raise SystemExit('the reason')")
    return tmp_path


@pytest.fixture
def flow(folder: Path) -> Iterator[FlowProcess]:
    with FlowProcess("idle", {"PYTHONPATH": str(folder)}, folder / "idle.log") as flow:
        yield flow


def test_a_flow_that_is_told_to_end_drains(flow: FlowProcess) -> None:
    assert flow.terminate() == 0
    assert "drained" in flow.output()
    assert not flow.running
    assert flow.stop() == 0, "no-op when it has ended"


def test_a_kill_is_proven_by_the_exit_code(flow: FlowProcess) -> None:
    flow.wait_ready()
    flow.kill()
    assert flow.process.returncode == -signal.SIGKILL


def test_a_kill_of_what_has_ended_by_itself_is_no_kill(folder: Path) -> None:
    with FlowProcess("broken", {"PYTHONPATH": str(folder)}, folder / "broken.log") as flow:
        flow.process.wait(30)
        with pytest.raises(FlowEndedError, match="status 1"):
            flow.kill()


def test_a_flow_that_fails_says_why(folder: Path) -> None:
    environment = {"PYTHONPATH": str(folder)}
    with (
        FlowProcess("broken", environment, folder / "broken.log") as flow,
        pytest.raises(FlowEndedError, match=r"broken ended with status 1; .*the reason"),
    ):
        flow.wait_ready()


def test_a_flow_is_ready_by_its_own_words_and_not_by_those_of_an_earlier_run(folder: Path) -> None:
    log = folder / "broken.log"
    log.write_text("ready: SIGTERM ends this flow in good order\n")
    environment = {"PYTHONPATH": str(folder)}
    with FlowProcess("broken", environment, log) as flow, pytest.raises(FlowEndedError):
        flow.wait_ready()


@needs_proc
@pytest.mark.parametrize("moment", ["at once", "later"])
def test_a_killed_launcher_leaves_no_flow(folder: Path, moment: str) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder), moment],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        assert launcher.stdout is not None
        if moment == "later":
            assert launcher.stdout.readline() == "up\n"
            assert len([line for line in processes_of(folder) if "bytewax.run" in line]) == 2
            launcher.kill()
        assert launcher.wait(30) == -signal.SIGKILL
    # "At once" is before a flow has told its guard of itself; it does, before it becomes a flow.
    time.sleep(0.2)
    assert_nothing_runs(folder)


@needs_proc
def test_an_error_in_the_block_ends_all_flows_at_once(folder: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="an error"),
        FlowProcesses({"one": "idle", "two": "idle"}, {"PYTHONPATH": str(folder)}, folder),
    ):
        raise RuntimeError("an error")
    assert_nothing_runs(folder)


@needs_proc
def test_flows_drain_together_and_one_that_ended_is_named(folder: Path) -> None:
    environment = {"PYTHONPATH": str(folder)}
    with FlowProcesses({"one": "idle", "two": "idle"}, environment, folder) as flows:
        while not all("ready" in flows.log(name).read_text() for name in ("one", "two")):
            flows.check()
            time.sleep(0.05)
        assert flows.stop() == {"one": 0, "two": 0}
    with (
        pytest.raises(FlowEndedError, match="broken ended"),
        FlowProcesses({"one": "idle", "bad": "broken"}, environment, folder) as flows,
    ):
        check_for(flows, 30)
    assert_nothing_runs(folder)


def test_totals_are_read_from_the_last_line_that_has_some(tmp_path: Path) -> None:
    flows = FlowProcesses({"features": "flows.features"}, {}, tmp_path)
    assert flows.totals("features") == {}
    log = "embedded=1 dead=0\n12:00 flows: embedded=12 reused=3 dead=0\nbye\n"
    (tmp_path / "features.log").write_text(log)
    assert flows.totals("features") == {"embedded": 12, "reused": 3, "dead": 0}


def test_the_environment_of_a_flow_is_this_one_and_what_is_given(folder: Path) -> None:
    (folder / "tell.py").write_text(
        "import os\nraise SystemExit(os.environ['GIVEN'] + os.environ['PATH'])"
    )
    environment = {"PYTHONPATH": str(folder), "GIVEN": "a 'quoted' $word"}
    with FlowProcess("tell", environment, folder / "tell.log") as flow:
        flow.process.wait(30)
        assert f"a 'quoted' $word{os.environ['PATH']}" in flow.output()
