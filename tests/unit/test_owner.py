"""Which process owns a pipeline, and the proof that it is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.mongodb.owner import Owner

HERE = Owner.here()

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are seen in /proc"
)


@pytest.fixture
def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def owner_of(process: "subprocess.Popen[bytes]") -> Owner:
    from connectors.mongodb import owner

    return HERE._replace(pid=process.pid, started=owner._started(process.pid))


def test_a_process_that_runs_is_not_gone() -> None:
    assert not HERE.is_gone()
    assert Owner.read(HERE._asdict()) == HERE
    assert Owner.read(None) is None


@needs_proc
def test_a_killed_process_is_gone_even_before_it_is_collected(
    child: "subprocess.Popen[bytes]",
) -> None:
    owner = owner_of(child)
    assert not owner.is_gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_gone()
    child.wait()
    assert owner.is_gone()


@needs_proc
def test_a_process_id_that_is_used_again_is_another_process() -> None:
    assert HERE._replace(started="1").is_gone()


@pytest.mark.parametrize("field", ["host", "boot", "namespace"])
def test_nothing_is_proven_of_a_process_that_is_counted_elsewhere(field: str) -> None:
    assert not HERE._replace(pid=2**22 + 1, **{field: "elsewhere"}).is_gone()
