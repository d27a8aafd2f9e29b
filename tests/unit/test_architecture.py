"""Rules of the tree: imports go one way, every failure stream is read, importing does nothing."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource
from bytewax.visualize import to_json

from flows import cdc, collect, features, pipeline, reconciliation
from flows.operators.attempt import attempt
from tests.processes import ROOT

ARROWS = {
    "models": set[str](),
    "connectors": {"models"},
    "connectors/collect": {"connectors", "models"},
    "connectors/mongodb": {"connectors", "models"},
    "connectors/qdrant": {"connectors", "connectors/qdrant/embedded", "models"},
    "connectors/qdrant/embedded": {"models"},
    "connectors/rabbitmq": {"connectors", "models"},
    "flows/text": {"models"},
    "flows/embedding": {"models"},
    "flows/operators": {"flows/embedding", "flows/text", "models"},
    "flows": {
        *("connectors", "connectors/collect", "connectors/mongodb", "connectors/qdrant"),
        *("connectors/rabbitmq", "flows/embedding", "flows/operators", "flows/text", "models"),
    },
    "retrieval": {
        *("connectors/mongodb", "connectors/qdrant", "connectors/rabbitmq"),
        *("flows", "flows/embedding", "flows/operators", "flows/text", "models"),
    },
    "ops": {"connectors/qdrant/embedded", "flows", "models"},
    "examples": {
        *("connectors/qdrant", "connectors/qdrant/embedded", "connectors/rabbitmq"),
        *("flows", "flows/embedding", "flows/text", "models", "ops", "retrieval"),
    },
}
"""Which package may import which: the whole drawing."""

PRODUCT = ("models", "connectors", "flows", "retrieval")
OF_EXTRAS = [ROOT / "retrieval" / name for name in ("langchain.py", "llamaindex.py")]
"""They import libraries that are installed only where somebody wants them."""
OUTSIDE = ("benchmarks", "docs", "tests")
"""Folders that no package imports."""


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


def packages() -> set[str]:
    tops = {name.split("/")[0] for name in ARROWS}
    return {
        str(file.parent.relative_to(ROOT)) for top in tops for file in (ROOT / top).rglob("*.py")
    }


def product_files() -> list[Path]:
    return [file for top in PRODUCT for file in sorted((ROOT / top).rglob("*.py"))]


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.relative_to(ROOT)}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str | None:
    """The folder of this tree in which a dotted name lies."""
    parts = name.split(".")
    folders = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    known = {*ARROWS, *OUTSIDE}
    return next((folder for folder in folders if folder in known), None)


def arrows_of(package: str) -> set[str]:
    names = {package_of(name) for file in files_of(package) for name in imports_of(file)}
    return {name for name in names if name} - {package}


def test_the_drawing_has_every_package() -> None:
    assert packages() == set(ARROWS)


@pytest.mark.parametrize("package", list(ARROWS))
def test_imports_go_one_way(package: str) -> None:
    assert arrows_of(package) - ARROWS[package] == set()


@pytest.mark.parametrize("package", list(ARROWS))
def test_the_drawing_has_no_arrow_that_nobody_needs(package: str) -> None:
    assert ARROWS[package] - arrows_of(package) == set()


def test_no_packages_import_each_other_in_a_circle() -> None:
    TopologicalSorter(ARROWS).prepare()  # raises CycleError


def test_the_drawing_keeps_the_rules_that_it_is_for() -> None:
    systems = {name for name in ARROWS if name.startswith("connectors/") and name.count("/") == 1}
    assert len(systems) == 4
    for system in systems:
        assert not ARROWS[system] & systems, "one system does not know another"
    for package in ("flows/operators", "flows/text", "flows/embedding"):
        assert not ARROWS[package] & {"connectors", "flows", *systems}, "nor settings nor clients"
    assert ARROWS["models"] == set()


def tree_of(document: Path) -> dict[str, str]:
    """Folders, and the text beside each, of the code block that lists them."""
    lines = re.findall(r"^([a-z_/]+)/ {2,}(\S.*)$", document.read_text(), re.MULTILINE)
    return dict(lines)


def test_the_design_shows_each_package_with_a_sentence() -> None:
    tree = tree_of(ROOT / "docs" / "design.md")
    assert set(tree) == {*ARROWS, *OUTSIDE}
    assert all(len(sentence.split()) >= 3 for sentence in tree.values())


ENVIRONMENT = {"environ", "environb", "getenv", "load_dotenv", "dotenv_values"}


def readers_of_the_environment(tree: ast.AST) -> list[str]:
    """Names by which a module can read the environment; `setdefault` tells a library something."""
    nodes = list(ast.walk(tree))
    told = [n.value for n in nodes if isinstance(n, ast.Attribute) and n.attr == "setdefault"]
    names = [n.attr for n in nodes if isinstance(n, ast.Attribute) and n not in told]
    names += [a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names]
    return sorted(ENVIRONMENT & set(names))


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_only_settings_reads_the_environment(file: Path) -> None:
    found = readers_of_the_environment(ast.parse(file.read_text()))
    assert bool(found) == (file == ROOT / "flows" / "settings.py"), found


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_person_reads_passes_one_place(file: Path) -> None:
    # print() shows whatever a document holds; flows.logs takes the orders to the terminal out.
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert bool(calls) == (file == ROOT / "flows" / "logs.py"), calls


@pytest.mark.parametrize("top", [*PRODUCT, "ops", "examples"])
def test_an_ignored_type_error_has_its_reason_beside_it(top: str) -> None:
    for file in sorted((ROOT / top).rglob("*.py")):
        for line in file.read_text().splitlines():
            if "type: ignore" in line:
                assert re.search(r"# type: ignore\[[a-z-]+\] +# \w+ \w+", line), f"{file}: {line}"


def never(*_: Any) -> Any:
    """A step of a dataflow that is only drawn."""


def flows() -> list[Dataflow]:
    nothing: Any = TestingSource([])
    return [
        cdc.build(nothing, never),
        features.build(nothing, never, lambda batch: [], never),
        pipeline.build(nothing, nothing, never, lambda batch: [], never, never),
        reconciliation.build(nothing, nothing, never, never, never, TestingSink([]), never),
        collect.build(nothing, never, TestingSink([])),
    ]


def lost_failures(flow: Dataflow) -> set[str]:
    """Streams of the name `errs`, at any depth, that come to no end of the dataflow."""
    steps = list(_steps(json.loads(to_json(flow))))
    failures = {
        port["port_id"]
        for step in steps
        for port in step["out_ports"]
        if port["port_name"] == "errs"
    }
    assert failures
    return {port for port in failures if not _arrives(port, steps)}


def _arrives(port: str, steps: list[dict[str, Any]]) -> bool:
    """Whether some step without a stream of its own takes a stream, or what is made of it."""
    for step in steps:
        outgoing = [out["port_id"] for out in step["out_ports"]]
        takes = any(port in into["from_port_ids"] for into in step["inp_ports"])
        if takes and (not outgoing or any(_arrives(out, steps) for out in outgoing)):
            return True
        relays = [out["port_id"] for out in step["out_ports"] if port in out["from_port_ids"]]
        if any(_arrives(out, steps) for out in relays):
            return True
    return False


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for below in step["substeps"]:
        yield below
        yield from _steps(below)


@pytest.mark.parametrize("flow", flows(), ids=lambda flow: str(flow.flow_id))
def test_every_failure_stream_is_read(flow: Dataflow) -> None:
    assert lost_failures(flow) == set()


@pytest.mark.parametrize("mapped", [False, True], ids=["by nobody", "by a step to nowhere"])
def test_a_failure_stream_that_is_not_read_is_found(mapped: bool) -> None:
    flow = Dataflow("unread")
    source: Any = TestingSource([1])
    sink: Any = TestingSink([])
    tried = attempt("try", op.input("in", flow, source), never, never)
    op.output("out", tried.oks, sink)
    if mapped:
        op.map("nowhere", tried.errs, never)
    assert lost_failures(flow) == {"unread.try.errs"}


IMPORT_ALL = """
import importlib, logging, os, signal, sys, threading

def state():
    fds = "/proc/self/fd"
    files = os.listdir(fds) if os.path.isdir(fds) else []
    links = [os.readlink(f"{fds}/{fd}") for fd in files if os.path.lexists(f"{fds}/{fd}")]
    return {
        "environment": dict(os.environ),
        "files": os.listdir("."),
        "handlers": [signal.getsignal(number) for number in (2, 15)],
        "hook": sys.excepthook,
        "logging": list(logging.getLogger().handlers),
        "sockets": [link for link in links if link.startswith("socket:")],
        "threads": threading.active_count(),
    }

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
    changed = {key: value for key, value in state().items() if value != before[key]}
    assert not changed, f"{name}: {changed}"
assert "torch" not in sys.modules
"""


def imported(names: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTHONPATH": f"{ROOT}:{folder / 'path'}", "PYTHONDONTWRITEBYTECODE": "1"}
    (folder / "empty").mkdir()
    return subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        cwd=folder / "empty",
        env={**os.environ, **environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_has_no_side_effect(tmp_path: Path) -> None:
    files = [file for file in product_files() if file not in OF_EXTRAS]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    done = imported([name.removesuffix(".__init__") for name in names], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "effect",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "open('left', 'w')",
        "import os; os.environ['X'] = '1'",
        "import logging; logging.basicConfig()",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "import socket; kept = socket.socket()",
        "import sys; sys.modules['torch'] = sys",
    ],
)
def test_a_side_effect_of_an_import_is_found(effect: str, tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "guilty.py").write_text(effect)
    assert imported(["models", "guilty"], tmp_path).returncode == 1
