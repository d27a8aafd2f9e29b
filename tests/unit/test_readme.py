"""The documents' generated parts, their promises to a reader, and their links.

The graph in docs/graph.md is that of `flows.pipeline`, and the numbers are those of the last `make
bench`. Write both again with `python -m tests.unit.test_readme`.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from bytewax.testing import TestingSource
from bytewax.visualize import to_mermaid

from benchmarks import words
from flows import pipeline
from models import documents

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GRAPH = ROOT / "docs" / "graph.md"
DOCUMENTS = (
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)

_DIAGRAM = re.compile(r"(?<=```mermaid\n).*?(?=\n```)", re.DOTALL)
_BOOKKEEPING = {"messages", "unencodable", "outgoing", "failed", "dead_letters"}
"""Steps of the graph that only rename or merge; the README's picture leaves them out."""
_SYSTEMS = {"mongodb_change_stream", "rabbitmq_queue", "publish_dead_letters"}
"""Steps that the picture shows as the systems that they read or write."""


def diagram() -> str:
    """What `python -m bytewax.visualize flows.pipeline -o mermaid` prints."""
    nothing: Any = TestingSource([])
    return to_mermaid(
        pipeline.build(nothing, nothing, lambda: None, lambda batch: [], print, print)
    )


def test_the_graph_is_that_of_the_flow() -> None:
    assert _DIAGRAM.findall(GRAPH.read_text()) == [diagram()]


def test_the_picture_of_the_readme_shows_the_steps_of_the_flow() -> None:
    [picture] = _DIAGRAM.findall(README.read_text())
    steps = set(re.findall(r"pipeline\.(\w+)\[", diagram())) - _BOOKKEEPING - _SYSTEMS
    assert {step for step in steps if not re.search(rf"\b{step}\b", picture)} == set()
    flow = re.findall(r"\b(\w+)\b", picture)
    assert steps == {word for word in flow if re.search(rf"pipeline\.{word}\[", diagram())}


@pytest.mark.parametrize("document", [path.name for path in words.texts()])
def test_the_numbers_are_those_that_were_measured(document: str) -> None:
    [(path, text)] = [item for item in words.texts().items() if item[0].name == document]
    assert words.stands(path) == [text]


def test_a_reader_sees_picture_commands_and_a_search_hit_before_line_40() -> None:
    beginning = "\n".join(README.read_text().split("\n")[:39])
    for needed in (
        "feature store",
        "```mermaid",
        "$ make demo",
        "make search",
        "\n 1.000  repositories",
    ):
        assert needed in beginning


def test_exactly_once_is_never_claimed() -> None:
    for document in DOCUMENTS:
        for sentence in re.findall(r"[^.]*exactly[- ]once[^.]*", document.read_text(), re.I):
            assert re.search(r"\b(?:never|not|no)\b", sentence), f"{document.name}: {sentence}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)\s*([^)]+)\)", document.read_text()):
        file, _, heading = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), f"links to {link}"
        if heading:
            assert heading in _anchors(target), f"links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_imports_of_every_example_exist(document: Path) -> None:
    for example in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        for line in re.findall(r"^(?:from|import) .*$", example, re.MULTILINE):
            exec(line, {})


def test_the_document_type_of_the_readme_can_be_pasted_as_it_is() -> None:
    [example] = re.findall(r"```python\n(class Talk.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = dict(vars(documents))
    try:
        exec(example, names)
        talk = names["Talk"].parse("1", {"content": {"slides": "a", "transcript": "b"}})
    finally:
        documents.DOCUMENT_TYPES.pop("talks", None)
    assert [section.path for section in talk.sections] == ["transcript"]


def _anchors(document: Path) -> set[str]:
    """The names that a Markdown viewer gives to headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    GRAPH.write_text(_DIAGRAM.sub(lambda _: diagram(), GRAPH.read_text()))
    words.write()
