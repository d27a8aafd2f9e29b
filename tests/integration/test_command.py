"""How commands end: with one line and the exit code of what happened."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PROGRAM = """
import os, sys, threading, time
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main
from connectors.scan import ScanSource
from flows.command import run_command
from models.errors import ConfigurationError, StoreUnavailableError

where, number = sys.argv[1], int(sys.argv[2])


def wait():
    threading.Timer(0.3, os.kill, [os.getpid(), number]).start()
    time.sleep(30)


def scan():
    yield 1
    if where == "source":
        wait()


def step(item):
    if where == "step":
        wait()
    if where == "error":
        raise StoreUnavailableError("it is\\ngone")
    return "key", item


def command():
    if where == "code":
        return number
    if where == "configuration":
        raise ConfigurationError("X=1 is not 2")
    if where == "bug":
        raise ZeroDivisionError("a bug")
    if where == "pipe":
        for _ in range(100_000):
            print("a line")
    if where == "python":
        try:
            wait()
        finally:
            print("tidied up")
    flow = Dataflow("x")
    items = op.map("step", op.input("scan", flow, ScanSource(scan)), step)
    op.output("out", items, TestingSink([]))
    run_main(flow)
    return 0


sys.exit(run_command("command", command))
"""


def run(where: str, number: int = 0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, where, str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("python", signal.SIGINT),
        ("source", signal.SIGINT),
        ("step", signal.SIGINT),
        ("step", signal.SIGTERM),
        ("source", signal.SIGHUP),
    ],
)
def test_a_signal_ends_a_command_in_one_line_and_at_once(where: str, number: int) -> None:
    done = run(where, number)
    assert (done.returncode, done.stderr) == (128 + number, "command: interrupted\n")
    assert ("tidied up" in done.stdout) == (where == "python")


def test_an_exit_code_is_that_of_the_command() -> None:
    assert run("code", 3).returncode == 3


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("configuration", "configuration error: X=1 is not 2"),
        ("bug", "command: ZeroDivisionError: a bug"),
        ("error", r"command: it is\ngone"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(where: str, line: str) -> None:
    done = run(where)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == line
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_a_command_in_silence(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{{ {sys.executable} {program} pipe 0; echo $? >&2; }} | head -n 1"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("a line\n", "141\n")
