"""The README's generated parts: the diagram of `flows.pipeline`, and the measured numbers.

Write them anew with `python -m tests.unit.test_readme`.
"""

import json
import re
from pathlib import Path
from typing import Any

from bytewax.testing import TestingSink, TestingSource
from bytewax.visualize import to_mermaid

from flows import pipeline

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results.json"

NOT_MEASURED = "Not measured yet: `make bench` writes `benchmarks/results.json`, and this table."
_DIAGRAM = re.compile(r"(?<=```mermaid\n).*?(?=\n```)", re.DOTALL)
_NUMBERS = re.compile(r"(?<=<!-- numbers -->\n).*?(?=\n<!-- /numbers -->)", re.DOTALL)


def diagram() -> str:
    """What `python -m bytewax.visualize flows.pipeline -o mermaid` prints."""
    nothing: Any = TestingSource([])
    sink: Any = TestingSink([])
    return to_mermaid(pipeline.build(nothing, nothing, lambda: None, lambda batch: [], sink))


def numbers() -> str:
    """A line for each row of the last `make bench`, or a sentence where there was none."""
    if not RESULTS.exists():
        return NOT_MEASURED
    found = json.loads(RESULTS.read_text())
    rows = found["rows"] if isinstance(found, dict) else found
    lines = ["| what | measured | target | met |", "|---|---:|---:|---|"]
    for row in rows:
        unit = f" {row['unit']}" if row.get("unit") else ""
        target = row.get("target")
        met = {True: "yes", False: "no"}.get(row.get("met"), "–")
        lines.append(
            f"| `{row['name']}` | {_number(row['value'])}{unit} "
            f"| {'–' if target is None else _number(target)} | {met} |"
        )
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def test_the_diagram_is_that_of_the_flow() -> None:
    assert _DIAGRAM.findall(README.read_text()) == [diagram()]


def test_the_numbers_are_those_that_were_measured() -> None:
    assert _NUMBERS.findall(README.read_text()) == [numbers()]


def test_what_a_reader_needs_first_comes_first() -> None:
    beginning = "\n".join(README.read_text().split("\n")[:40])
    for needed in ("make demo", "make test", "make search", "```mermaid"):
        assert needed in beginning


def test_exactly_once_is_never_claimed() -> None:
    for document in (README, *(ROOT / "docs").glob("*.md")):
        for sentence in re.findall(r"[^.]*exactly[- ]once[^.]*", document.read_text(), re.I):
            assert re.search(r"\b(?:never|not|no)\b", sentence), f"{document.name}: {sentence}"


def test_every_link_to_a_file_leads_somewhere() -> None:
    documents = (README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
    for document in (*documents, *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


if __name__ == "__main__":
    text = _DIAGRAM.sub(lambda _: diagram(), README.read_text())
    README.write_text(_NUMBERS.sub(lambda _: numbers(), text))
