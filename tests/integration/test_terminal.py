"""Commands print on every output, also one that cannot show every character."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from tests.processes import ROOT

OUTPUTS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
QUERY = "für 怎样"
TOLD = "Straße → 怎样 👩‍💻"
# All in one process, which imports the product once.
PROGRAM = """
import contextlib, logging, sys, unittest.mock
from examples import demo
from flows.command import run_command
from flows.logs import complain, configure_logging, say
from retrieval import search, status
from retrieval.hits import Hit

query = sys.argv[1]

status._mongodb = lambda settings, problems: ({"posts": 1}, TOLD)
status._queues = lambda settings, problems: {"default": TOLD}
status._store = lambda settings, problems: {}

hits = [Hit(0.5, kind, *[TOLD] * 6, TOLD, "1") for kind in ("posts", "repositories")]
search._opened = lambda: contextlib.nullcontext(unittest.mock.Mock())
search._search = lambda _, asked, options: (hits if asked == QUERY else [], [None] * 2)

def lines():  # as reconcile and replay print them
    configure_logging("INFO")
    say(f"stale: posts {TOLD}")
    complain(TOLD)
    logging.getLogger("flows").warning(TOLD)
    return 0

def run(screen):
    screen.title(TOLD)
    screen.step(TOLD)
    return 0

demo._only_demo = contextlib.nullcontext
demo._run = run

commands = {
    "status": lambda: run_command("status", status.main),
    "search": lambda: run_command("search", lambda: search.main([query])),
    "json": lambda: run_command("search", lambda: search.main(["--json", query])),
    "lines": lambda: run_command("reconcile", lines),
    "demo": demo.main,
}
for name, command in commands.items():
    print(f"<{name}>")
    print(f"<{command()}>")
"""


@cache
def run(output: str) -> "subprocess.CompletedProcess[str]":
    program = f"QUERY, TOLD = {QUERY!r}, {TOLD!r}\n{PROGRAM}".encode("ascii", "backslashreplace")
    return subprocess.run(
        [sys.executable, "-c", program.decode(), QUERY],
        cwd=ROOT,
        env={**os.environ, **OUTPUTS[output]},
        encoding="latin-1" if output == "latin-1" else "ascii",
        capture_output=True,
        check=False,
        timeout=120,
    )


def printed(command: str, output: str) -> str:
    """The output of a command that ended with exit code 0."""
    done = run(output)
    assert f"<{command}>\n" in done.stdout, done.stderr
    text, _, rest = done.stdout.partition(f"<{command}>\n")[2].partition("\n<")
    assert rest[:2] == "0>", done.stderr
    return text


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("command", ["status", "search", "lines", "demo"])
def test_an_output_that_is_not_utf_8_ends_no_command(command: str, output: str) -> None:
    """`make status` ended with a UnicodeEncodeError."""
    assert r"\u600e\u6837" in printed(command, output)


@pytest.mark.parametrize("output", OUTPUTS)
def test_json_for_an_output_that_is_not_utf_8_is_json(output: str) -> None:
    [post, _] = json.loads(printed("json", output))
    assert post["content"] == TOLD


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_log_on_an_output_that_is_not_utf_8_loses_no_line(output: str) -> None:
    told = run(output).stderr.splitlines()
    assert len(told) == 2, told
    assert all(r"\u600e\u6837" in line for line in told)
