"""ops/rabbitmq4.sh where it cannot do its work: one line that says why, and nothing is left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ABLE = {"id": "echo 0", "unshare": "exit 0", "debootstrap": "exit 0"}
"""Commands of a machine on which everything is allowed."""


def run(tmp_path: Path, commands: dict[str, str]) -> tuple[int, list[str]]:
    """Exit status and lines of the script on a machine with these commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in (ABLE | commands).items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:/usr/bin:/bin",
        "RABBITMQ4_ROOT": str(tmp_path / "root"),
    }
    command = [ROOT / "ops/rabbitmq4.sh", "tests/integration/test_stack.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    ("commands", "needed"),
    [({"id": "echo 1000"}, "needs root"), ({"unshare": "exit 1"}, "allows no namespaces")],
)
def test_a_machine_that_cannot_run_rabbitmq_4_is_told_so_in_one_line(
    tmp_path: Path, commands: dict[str, str], needed: str
) -> None:
    status, lines = run(tmp_path, commands)
    assert status == 1
    assert len(lines) == 1
    assert needed in lines[0]


def test_a_download_that_fails_leaves_no_half_root_that_the_next_run_would_take(
    tmp_path: Path,
) -> None:
    failing = "echo 'E: Failed getting release file http://x/Release' >&2; exit 1"
    status, lines = run(tmp_path, {"debootstrap": failing})
    assert status == 1
    assert not (tmp_path / "root").exists()
    # the announcement of the download, and the reason
    assert len(lines) == 2
    assert "Failed getting release file" in lines[1]
