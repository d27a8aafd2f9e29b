"""Each pattern of the work on text has a name, and an example of what it is for next to it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'")
FILES = sorted((ROOT / "flows" / "text").glob("*.py"))


def is_compiled(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")


def named(file: Path) -> Iterator[tuple[str, str]]:
    """Name of each pattern that a module assigns, and the text below it."""
    body = ast.parse(file.read_text()).body
    for node, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.Assign) and any(map(is_compiled, ast.walk(node.value))):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            yield ast.unparse(node.targets[0]), str(below.value.value) if is_text else ""


PATTERNS = [(file, name, text) for file in FILES for name, text in named(file)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_pattern_is_nameless(file: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if is_compiled(node)]
    assert len(calls) == sum(file == other for other, _, _ in PATTERNS)


@pytest.mark.parametrize(("file", "name", "text"), PATTERNS, ids=lambda value: str(value)[:30])
def test_a_pattern_says_what_it_is_for_by_an_example_that_it_matches(
    file: Path, name: str, text: str
) -> None:
    module = importlib.import_module(f"flows.text.{file.stem}")
    value = getattr(module, name)
    patterns = list(value.values()) if isinstance(value, dict) else [value]
    example = _LITERAL.search(text)
    assert example, f"{name} of {file.name} lacks an example in single quotes below it"
    written = ast.literal_eval(example[0])
    assert any(pattern.search(written) for pattern in patterns), written
