"""Whether cleaning keeps the words of real documents, judged by other programs.

`python -m benchmarks.kept_words` reads every text that an installation of this project brings
along, and the documentation of the system. For each text, html5lib and markdown-it say which words
a reader of the original sees, and which a reader of the cleaned text sees. It writes the table of
docs/quality.md, and exits with 1 if a document differs.
"""

import ast
import gzip
import importlib.metadata
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from flows.text.characters import plain_text
from flows.text.clean import clean_text
from flows.text.kinds import Kind, kind_of
from tests.reader import EXCEPTIONS, shown

_PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "quality.md"
_BEGIN, _END = "<!-- words -->\n", "<!-- /words -->\n"
_SITE: Final = Path(sysconfig.get_path("purelib"))
_STANDARD: Final = Path(sysconfig.get_path("stdlib"))
_PROSE: Final = {".md", ".markdown", ".rst", ".txt", ".html", ".htm"}
_BUDGET: Final = 12_000_000
"""Characters of one corpus, so that machines with more documentation take no longer."""
_LONGEST: Final = 400_000
_SHORTEST: Final = 200

Text = tuple[str, str]
"""The name of a document, and what it says."""


def descriptions() -> Iterator[Text]:
    """What installed distributions say about themselves."""
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.name.lower()):
        metadata = distribution.metadata
        yield distribution.name, str(metadata.json.get("description") or "")


def installed_files() -> Iterator[Text]:
    """READMEs, licences, changelogs and pages that distributions bring along."""
    return _files(_SITE, _PROSE)


def docstrings() -> Iterator[Text]:
    """What the modules of the standard library, then those of distributions, say of themselves."""
    for folder in _STANDARD, _SITE:
        for path in sorted(folder.rglob("*.py")):
            if folder is _STANDARD and "-packages" in str(path):
                continue
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                    text := ast.get_docstring(node)
                ):
                    yield f"{path}:{getattr(node, 'lineno', 1)}", text


def system() -> Iterator[Text]:
    """The documentation of the system."""
    return _files(Path("/usr/share/doc"), None)


CORPORA: Final = {
    "descriptions of distributions": descriptions,
    "files of distributions": installed_files,
    "docstrings": docstrings,
    "/usr/share/doc": system,
}


def _files(folder: Path, suffixes: set[str] | None) -> Iterator[Text]:
    for path in sorted(folder.rglob("*")):
        name = path.name.removesuffix(".gz")
        if path.is_file() and (suffixes is None or Path(name).suffix.lower() in suffixes):
            try:
                data = path.read_bytes()
                yield str(path), (gzip.decompress(data) if name != path.name else data).decode()
            except (OSError, ValueError):  # no text
                continue


@dataclass
class Result:
    """What was found in a corpus."""

    documents: int = 0
    characters: int = 0
    words: int = 0
    seconds: float = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)


def compare(texts: Iterable[Text]) -> Result:
    """Clean documents, and see whether their words are the same."""
    result, known = Result(), set()
    for name, text in texts:
        if not _SHORTEST <= len(text) <= _LONGEST or text in known:
            continue
        known.add(text)
        kind = kind_of(plain_text(text))
        began = time.process_time()
        cleaned = clean_text(text)
        result.seconds += time.process_time() - began
        words = shown(text, kind)
        result.documents += 1
        result.characters += len(text)
        result.words += len(words)
        result.kinds[kind] += 1
        if words != shown(cleaned, Kind.PLAIN if kind is Kind.PLAIN else Kind.MARKDOWN):
            result.differing.append(name)
        if result.characters > _BUDGET:
            break
    return result


def table(results: dict[str, Result]) -> str:
    """The results as they stand in the documents."""
    lines = [
        "| corpus | documents | HTML, Markdown, plain | MB | words | documents that differ |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        kinds = ", ".join(
            f"{result.kinds[kind]:,}" for kind in (Kind.HTML, Kind.MARKDOWN, Kind.PLAIN)
        )
        lines.append(
            f"| {name} | {result.documents:,} | {kinds} | {result.characters / 1e6:.1f} "
            f"| {result.words:,} | {len(result.differing)} |"
        )
    speed = sum(r.characters for r in results.values()) / sum(r.seconds for r in results.values())
    exceptions = "\n".join(f"- {name}: {what}" for name, what in EXCEPTIONS.items())
    return (
        "\n".join(lines)
        + f"\n\nCleaning took one second of processor time for {speed / 1e6:.1f} MB.\n\n"
        + f"By intention, these are read otherwise than a browser shows them:\n\n{exceptions}\n"
    )


def main() -> None:
    """Compare every corpus, or those that are named, and write the table."""
    results = {}
    for name in CORPORA:
        results[name] = compare(CORPORA[name]())
        print(
            name,
            results[name].documents,
            "differing:",
            *islice(results[name].differing, 20),
            sep="\n  ",
        )
    page = _PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _PAGE.write_text(f"{before}{_BEGIN}{table(results)}{_END}{rest.partition(_END)[2]}")
    sys.exit(any(result.differing for result in results.values()))


if __name__ == "__main__":
    main()
