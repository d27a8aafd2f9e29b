"""`--help` of every command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

COMMANDS = (
    *("flows.collect", "flows.migrate", "flows.reconcile", "flows.replay"),
    *("retrieval.compare", "retrieval.search", "retrieval.status"),
    *("examples.demo", "ops.dev", "ops.stack", "ops.image_lock", "benchmarks"),
    *("tests.chaos.soak", "tests.faults", "tests.mutants"),
)
WITHOUT_OPTIONS = ("flows.replay", "retrieval.status", "examples.demo")
# All in one process, which imports the product once.
PROGRAM = """
import contextlib, io, json, runpy, sys
answers = {}
for name in sys.argv[2:]:
    sys.argv = [name, sys.argv[1]]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    answers[name] = code, out.getvalue()
print(json.dumps(answers))
"""


def answers(folder: Path, argument: str, *commands: str) -> dict[str, tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("sys.argv[2:]", repr(commands)), argument],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "100", "MONGO_DATABASE_HOST": "not used"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    folder = tmp_path_factory.mktemp("help")
    found = answers(folder, "--help", *COMMANDS)
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_does_not_run_it(
    command: str, helped: dict[str, tuple[int, str]]
) -> None:
    """`python -m flows.replay --help` replayed all dead letters."""
    code, text = helped[command]
    assert code == 0
    usage, description, *rest = text.split("\n\n")
    assert usage.startswith(f"usage: python -m {command} [-h]")
    assert re.fullmatch(r"[A-Z`].{20,}\.", description, re.DOTALL)
    assert text.isascii()
    options = "\n".join(rest)
    for option in re.findall(r"^  (?:-\S+|[a-zA-Z{]\S*).*(?:\n {5,}\S.*)*", options, re.MULTILINE):
        assert re.search(r"\s{2,}[a-z]\w+", option.strip()), f"{command}: {option} is unexplained"


def test_a_command_without_options_refuses_every_argument(tmp_path: Path) -> None:
    for code, text in answers(tmp_path, "--nothing", *WITHOUT_OPTIONS).values():
        assert code == 2
        assert text.endswith("error: unrecognized arguments: --nothing\n")
    assert list(tmp_path.iterdir()) == []
