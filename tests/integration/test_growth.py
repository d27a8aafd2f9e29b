"""No pattern of `flows/text` takes more than linear time, whatever it is given.

Every pattern is found by itself, and attacked with strings made from its own parts, so a new one
is covered without an edit here.
"""

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flows.text
from flows.text.clean import clean_text
from flows.text.structure import code_boundaries, prose_boundaries
from tests.integration.pumping import attacks

SMALL = (6, 10, 14, 20, 28)
"""Repetitions after which an exponential pattern is caught before it takes hours."""

LENGTH = 3000
PATIENCE_S = 0.02


def modules() -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(flows.text.__path__, "flows.text.")]
    return [importlib.import_module(name) for name in names]


def patterns() -> Iterator[tuple[str, "re.Pattern[str]", bool]]:
    """Name, pattern, and whether it is tried at one place only and not all along the text."""
    for module in modules():
        tree = ast.parse(Path(module.__file__).read_text())
        for name, value in vars(module).items():
            for index, pattern in enumerate(found_in(value)):
                yield f"{module.__name__}.{name}[{index}]", pattern, anchored(tree, name)
        for number, pattern in enumerate(inline(tree)):
            yield f"{module.__name__}, call {number}", pattern, False


def found_in(value: Any) -> Iterator["re.Pattern[str]"]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from found_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from found_in(item)


def anchored(tree: ast.Module, name: str) -> bool:
    methods = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }
    return bool(methods) and methods <= {"match", "fullmatch"}


def inline(tree: ast.Module) -> Iterator["re.Pattern[str]"]:
    """The patterns that a function compiles where it uses them."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "re"
            and node.func.attr != "compile"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield re.compile(node.args[0].value)


PATTERNS = {name: (pattern, only) for name, pattern, only in patterns()}


def seconds(work: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    work(text)
    return time.process_time() - started


def grows(work: Callable[[str], object], attack: tuple[str, str, str]) -> bool:
    """Whether four times the text takes more than nine times as long; quadratic is sixteen."""
    prefix, pump, suffix = attack
    if any(seconds(work, prefix + pump * count + suffix) > PATIENCE_S for count in SMALL):
        return True
    count = LENGTH // len(pump) + 1
    once = seconds(work, prefix + pump * count + suffix)
    if once < 0.0015:
        return False
    # Suspicious: look again, and take the best of several, which no other program's load can make
    # too small.
    longer = prefix + pump * (4 * count) + suffix
    return all(
        seconds(work, longer) > 9 * seconds(work, prefix + pump * count + suffix) for _ in range(5)
    )


def everywhere(pattern: "re.Pattern[str]", only: bool) -> Callable[[str], object]:
    if only:
        return lambda text: (pattern.match(text), pattern.fullmatch(text))
    return lambda text: sum(1 for _ in pattern.finditer(text))


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_grows_faster_than_its_text(name: str) -> None:
    """Underscores in emphasis doubled the time with each word, a table rule squared it."""
    pattern, only = PATTERNS[name]
    work = everywhere(pattern, only)
    slow = [attack for attack in attacks(pattern) if grows(work, attack)]
    assert not slow, f"{pattern.pattern}\nis slow on (prefix, pump, suffix) {slow[:3]}"


@pytest.mark.parametrize(
    ("pattern", "only"),
    [
        (r"(?<!\w)(_{1,3})(?=[^\s_])((?:[^_\n]|(?<=\w)_+(?=\w))*)(?<=[^\s_])\1(?!\w)", False),
        (r"[|: -]*-[|: -]*", True),
        (r"\s+$", False),
        (r"(?s)<!--.*-->", False),
        (r"\[[^\]]*\]\(", False),
        (r"^\s*(\w+\s?)*;$", True),
    ],
)
def test_the_attacks_find_a_pattern_that_grows(pattern: str, only: bool) -> None:
    compiled = re.compile(pattern)
    work = everywhere(compiled, only)
    assert any(grows(work, attack) for attack in attacks(compiled))


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "clean": clean_text,
    "prose": lambda text: list(prose_boundaries(text)),
    "code": lambda text: list(code_boundaries(text)),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_step_on_text_grows_faster_than_its_text(function: str) -> None:
    """Patterns that are linear each by itself can be applied a linear number of times."""
    every = sorted({attack for pattern, _ in PATTERNS.values() for attack in attacks(pattern)})
    some = every[:: len(every) // 150]
    slow = [attack for attack in some if grows(FUNCTIONS[function], attack)]
    assert not slow, f"slow on (prefix, pump, suffix) {slow[:3]}"


def test_every_pattern_is_found() -> None:
    assert len(PATTERNS) > 40
    assert [p.pattern for p in inline(ast.parse('re.sub("a+", "", text)'))] == ["a+"]
    assert sum(only for _, only in PATTERNS.values()) >= 6
