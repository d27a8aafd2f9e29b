"""`make dev`: both servers and both flows in the foreground, and nothing is left running."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.settings import VARIABLES, Settings
from ops import dev
from ops.flow_process import ROOT
from ops.local_server import free_port
from tests.integration.test_stack import assert_nothing_runs, needs_proc, needs_rabbitmq

PROGRAM = """
import os, sys
os.open(os.ttyname(0), os.O_RDWR)  # the first terminal that a session opens is its own
from ops import dev
sys.exit(dev.main(sys.argv[1:], {"cdc": "flows.cdc", "features": "tests.hashing_features"}))
"""
READY = re.compile(r"^(cdc|features) +\| .*ready: SIGTERM", re.MULTILINE)


@dataclass
class Terminal:
    """A program in a terminal of its own: closing it does what closing a window does."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = field(default="")

    def read_until(self, pattern: "re.Pattern[str]", count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(pattern.findall(self.shown)) < count:
            assert time.monotonic() < deadline, self.shown
            assert self.process.poll() is None, self.shown
            self.read()
            time.sleep(0.05)

    def read(self) -> None:
        with suppress(BlockingIOError, OSError):
            self.shown += os.read(self.master, 65536).decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self.master)
        self.master = -1


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    needs_rabbitmq()
    environment = {
        **os.environ,
        **dict.fromkeys(VARIABLES, ""),
        "MONGO_DATABASE_HOST": f"mongodb://127.0.0.1:{free_port()}",
        "RABBITMQ_PORT": str(free_port()),
        "QDRANT_PATH": str(tmp_path / "qdrant"),
        "LOG_LEVEL": "INFO",
    }
    master, slave = os.openpty()
    os.set_blocking(master, False)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--data", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        terminal.read_until(READY, 2, 90)
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if terminal.master >= 0:
            terminal.close()


def log(folder: Path, name: str) -> str:
    return (folder / "dev" / f"{name}.log").read_text()


@needs_proc
def test_a_closed_terminal_leaves_nothing_running_and_the_flows_have_drained(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.close()
    assert terminal.process.wait(40) == 0
    assert_nothing_runs(tmp_path)
    for name in ("cdc", "features"):
        assert "stopping" in log(tmp_path, name)


@needs_proc
def test_a_killed_launcher_leaves_nothing_running(terminal: Terminal, tmp_path: Path) -> None:
    terminal.process.kill()
    assert terminal.process.wait(5) == -signal.SIGKILL
    assert_nothing_runs(tmp_path)


@needs_proc
def test_ctrl_c_lets_the_flows_drain_and_says_so(terminal: Terminal, tmp_path: Path) -> None:
    os.write(terminal.master, b"\x03")
    assert terminal.process.wait(40) == 0
    terminal.read()
    assert "dev      | ending" in terminal.shown
    assert len(re.findall(r"\| .*stopping", terminal.shown)) == 2
    assert "Traceback" not in terminal.shown
    assert_nothing_runs(tmp_path)


@needs_proc
def test_a_flow_that_dies_ends_the_stack_and_is_named(terminal: Terminal, tmp_path: Path) -> None:
    [pid] = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if _is(process, b"flows.cdc", os.fsencode(tmp_path))
    ]
    os.kill(pid, signal.SIGKILL)
    assert terminal.process.wait(40) == 1
    terminal.read()
    assert "flows.cdc ended with status -9" in terminal.shown
    assert_nothing_runs(tmp_path)


def _is(process: Path, command: bytes, environment: bytes) -> bool:
    try:
        return (
            command in (process / "cmdline").read_bytes().split(b"\0")
            and environment in (process / "environ").read_bytes()
        )
    except OSError:
        return False


@pytest.mark.parametrize(
    ("variables", "started"),
    [
        ({}, ["mongodb", "rabbitmq", "qdrant"]),
        ({"QDRANT_URL": "http://db.example:6333"}, ["mongodb", "rabbitmq"]),
        ({"RABBITMQ_HOST": "broker.example"}, ["mongodb", "qdrant"]),
        ({"RABBITMQ_DEFAULT_USERNAME": "me"}, ["mongodb", "qdrant"]),
        ({"MONGO_DATABASE_HOST": "mongodb://db.example:1"}, ["rabbitmq", "qdrant"]),
        ({"MONGO_DATABASE_HOST": "mongodb://me:pw@127.0.0.1:30001"}, ["rabbitmq", "qdrant"]),
        ({"MONGO_DATABASE_HOST": "mongodb://127.0.0.1:1,127.0.0.1:2"}, ["rabbitmq", "qdrant"]),
    ],
)
def test_only_servers_that_the_settings_expect_here_are_started(
    variables: dict[str, str], started: list[str], tmp_path: Path
) -> None:
    settings = Settings.from_env({"QDRANT_PATH": str(tmp_path / "qdrant"), **variables})
    servers = dev._servers(settings, tmp_path)
    assert [server.name for server in servers] == started


def test_a_wrong_setting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RABBITMQ_PORT", "many")
    monkeypatch.setattr(dev, "interrupt_on_signals", lambda: None)
    assert dev.main([]) == 1
    assert capsys.readouterr().out.count("\n") == 1
