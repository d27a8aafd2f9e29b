"""Documents that must not drift: variables and make targets."""

from __future__ import annotations

import re
from pathlib import Path

from flows.settings import VARIABLES

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()


def documented_variables() -> dict[str, str]:
    """Name and value of each uncommented line, without those that only Docker Compose reads."""
    own, _, _ = EXAMPLE.partition("# --- Docker Compose")
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", own, re.MULTILINE))


def targets() -> dict[str, str]:
    makefile = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z0-9-]+):[^=#\n]*(?:## (.*))?$", makefile, re.MULTILINE))


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    assert sorted(documented_variables()) == sorted(VARIABLES)


def test_every_variable_is_explained() -> None:
    lines = EXAMPLE.split("\n")
    names = [
        line for line in lines if re.match(r"(# )?(?!BYTEWAX_DATAFLOW_API_PORT)[A-Z_]+=", line)
    ]
    for line in names:
        assert re.match(r"# \S", lines[lines.index(line) - 1]), f"{line} has no explanation"


def test_the_settings_read_their_variables_and_nothing_else_does() -> None:
    readers = [
        path.relative_to(ROOT).as_posix()
        for package in ("flows", "connectors", "models", "retrieval")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r'os\.getenv|os\.environ\.get\("[A-Z]|= os\.environ\b', path.read_text())
    ]
    assert readers == ["flows/settings.py"]


def test_every_make_target_that_a_document_names_exists() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {
        target
        for document in documents
        if document.exists()
        for target in re.findall(
            r"(?:^|`|\$ )make ([a-z][a-z0-9-]*)", document.read_text(), re.MULTILINE
        )
    }
    assert named <= targets().keys()
    assert (ROOT / "README.md").exists()


def test_every_target_for_people_says_what_it_does() -> None:
    silent = {name for name, text in targets().items() if not text}
    assert silent == {"python", "stack"}
