"""Rules of the tree: imports go one way, no failure stream is unread, importing does nothing."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource
from bytewax.visualize import to_json

from flows import cdc, features, pipeline
from tests.processes import ROOT

FORBIDDEN = {
    "models": {"connectors", "flows", "retrieval", "tests", "ops", "examples", "benchmarks"},
    "connectors": {"flows", "retrieval", "tests", "ops", "examples", "benchmarks"},
    "flows/operators": {"connectors", "flows.settings", "retrieval", "tests", "ops", "examples"},
    "flows": {"retrieval", "tests", "ops", "examples", "benchmarks"},
    "retrieval": {"tests", "ops", "examples", "benchmarks"},
}


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", list(FORBIDDEN))
def test_imports_go_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            wrong = [w for w in FORBIDDEN[package] if name == w or name.startswith(f"{w}.")]
            assert not wrong, f"{file.relative_to(ROOT)} imports {name}"


def test_only_settings_reads_the_environment() -> None:
    for package in ("models", "connectors", "flows"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name == "settings.py":
                continue
            tree = ast.parse(file.read_text())
            reads = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and node.attr in ("getenv", "get", "__getitem__")
                and "environ" in ast.unparse(node.value)
            ]
            assert not reads, file


def flows() -> list[Dataflow]:
    nothing: Any = TestingSource([])
    sink: Any = TestingSink([])
    return [
        cdc.build(nothing, sink),
        features.build(nothing, lambda: None, lambda batch: [], sink),
        pipeline.build(nothing, nothing, lambda: None, lambda batch: [], sink),
    ]


@pytest.mark.parametrize("flow", flows(), ids=lambda flow: str(flow.flow_id))
def test_every_failure_stream_is_read(flow: Dataflow) -> None:
    steps = json.loads(to_json(flow))["substeps"]
    read = {id_ for step in steps for port in step["inp_ports"] for id_ in port["from_port_ids"]}
    failures = [
        port["port_id"]
        for step in steps
        for port in step["out_ports"]
        if port["port_name"] == "errs"
    ]
    assert failures
    assert set(failures) <= read


def test_importing_a_flow_has_no_side_effect(tmp_path: Path) -> None:
    code = (
        "import flows.cdc, flows.features, flows.pipeline, sys, threading; "
        "assert 'torch' not in sys.modules; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert not list(tmp_path.iterdir())
