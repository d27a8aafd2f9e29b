"""Questions whose answer is known, made of real text that every machine has.

Nothing is downloaded: a query is a line that its author wrote above a text, the answer is that text
without the line.

- docstrings: the first line of a docstring → the rest of it
- pages: the heading of a section in the description of an installed distribution, or the title of a
  topic of Python's manual → the text below it
- code: the first line of a function's docstring → the function without its docstring

No function is in two sets. Half of the queries of each set are kept out of any tuning; which half,
a hash of the answer says.
"""

import ast
import importlib.metadata
import re
import sysconfig
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final, NamedTuple

DOCUMENTS: Final = 800
"""In each set, if the machine has as many."""
QUERIES: Final = 300
"""In each set."""

_BODY: Final = range(200, 2000)
_QUERY: Final = range(20, 120)
_PER_PACKAGE: Final = 60
_FILE_BYTES: Final = range(500, 60_000)
_SAID_EVERYWHERE: Final = re.compile(
    r"(?i)[\W\d_]*(install\w*|licen[sc]e|usage|contribut\w+|change ?log|develop\w+|documentation|"
    r"test\w*|requirements|quick ?start|features|support|examples?|getting started|credits)?\W*"
)
"""A heading that is only this says nothing, nor does one of a version."""


class Item(NamedTuple):
    """A document, and the query that it answers."""

    key: str
    query: str
    text: str
    path: str
    """The file that it is from."""
    title: str = ""
    """Of the document, where it has one."""

    @property
    def is_kept_out(self) -> bool:
        """Whether it may not be tuned with."""
        return _order(f"half {self.key}") % 2 == 0


class Set(NamedTuple):
    """The items of one kind, and the type of document that they are stored as."""

    name: str
    type: str
    items: list[Item]

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Collection and document of each item, as MongoDB would hold it."""
        for item in self.items:
            yield self.type, {"_id": item.key, **_DOCUMENTS[self.type](item)}

    def queries(self, kept_out: bool) -> list[Item]:
        """Items of one half whose queries are asked."""
        asked = [item for item in self.items if item.is_kept_out == kept_out]
        return asked[: QUERIES // 2]


def sets() -> list[Set]:
    """All sets, the same on every run on one machine."""
    made = [
        Set("docstrings", "articles", _some(_functions(as_code=False))),
        Set("pages", "articles", _some(_pages())),
        Set("code", "repositories", _some(_functions(as_code=True))),
    ]
    return [one for one in made if one.items]


_DOCUMENTS: Final[dict[str, Callable[[Item], dict[str, Any]]]] = {
    "posts": lambda item: {"platform": "docs", "content": item.text},
    "articles": lambda item: {
        "platform": "docs",
        "content": {"Title": item.title, "Content": item.text},
    },
    "repositories": lambda item: {"name": "code", "content": {item.path: item.text}},
}


def _some(items: Iterable[Item]) -> list[Item]:
    """As many as a set has, each query and each text once."""
    seen: set[str] = set()
    some = []
    for item in items:
        parts = {item.query.casefold(), item.text}
        if not parts & seen:
            some.append(item)
            seen |= parts
        if len(some) == DOCUMENTS:
            break
    return some


def _order(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _functions(as_code: bool) -> Iterator[Item]:
    per_package: Counter[str] = Counter()
    for path in _files():
        for node in _documented(path):
            key = f"{path}:{node.name}:{node.lineno}"
            if (_order(key) % 2 == 0) == as_code and per_package[_package(path)] < _PER_PACKAGE:
                item = _code(node, path, key) if as_code else _docstring(node, path, key)
                if item is not None:
                    per_package[_package(path)] += 1
                    yield item


def _files() -> list[str]:
    """Source files of the standard library and of installed distributions, in a random order."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    files = (file for folder in folders for file in Path(folder).rglob("*.py"))
    wanted = (str(file) for file in files if "test" not in str(file).lower())
    return sorted(wanted, key=_order)


def _package(path: str) -> str:
    return path.partition("-packages/")[2].partition("/")[0] or "the standard library"


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _documented(path: str) -> Iterator[_Function]:
    """The functions of a file that have a docstring."""
    try:
        if Path(path).stat().st_size not in _FILE_BYTES:
            return
        tree = ast.parse(Path(path).read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _Function) and ast.get_docstring(node):
            yield node


def _first_line(node: _Function) -> tuple[str, str]:
    first, _, rest = (ast.get_docstring(node) or "").partition("\n")
    return first.strip(), rest.strip()


def _docstring(node: _Function, path: str, key: str) -> Item | None:
    first, rest = _first_line(node)
    return _item(key, first, rest, path, f"{_module(path)}.{node.name}")


def _code(node: _Function, path: str, key: str) -> Item | None:
    first, _ = _first_line(node)
    lines = Path(path).read_text("utf-8").splitlines()
    docstring = node.body[0]
    begin = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
    kept = [*lines[begin : docstring.lineno - 1], *lines[docstring.end_lineno : node.end_lineno]]
    return _item(key, first, textwrap.dedent("\n".join(kept)), _in_library(path))


def _in_library(path: str) -> str:
    """The path of a file below the folder of its library."""
    for folder in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
        if path.startswith(f"{folder}/"):
            return path.removeprefix(f"{folder}/")
    return Path(path).name


def _module(path: str) -> str:
    return _in_library(path).removesuffix(".py").replace("/", ".")


def _pages() -> Iterator[Item]:
    for title, text in sorted(topics.items(), key=lambda pair: _order(pair[0])):
        heading, _, body = text.partition("\n")
        below, key = body.lstrip("*=- \n"), f"topic:{title}"
        if item := _item(key, f"Python {heading}", below, "topics", f"Python: {title}"):
            yield item
    found = list(importlib.metadata.distributions())
    for distribution in sorted(found, key=lambda one: _order(str(one.metadata["Name"]))):
        name = str(distribution.metadata["Name"])
        metadata: Any = distribution.metadata
        text = str(metadata.get_payload() or metadata["Description"] or "")
        sections = (
            item
            for heading, body in _sections(text)
            if (item := _item(f"{name}:{heading}", f"{name}: {heading}", body, "README", name))
        )
        yield from islice(sections, _PER_PACKAGE // 3)


_HEADING: Final = re.compile(
    r"^#{2,4} +(?P<atx>.+?)#*$|^(?P<under>\S.*)\n(?:={4,}|-{4,}|~{4,}|\^{4,})$", re.MULTILINE
)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings, and what stands between each and the next."""
    found = list(_HEADING.finditer(text))
    for heading, after in zip(found, [*found[1:], None], strict=False):
        title = re.sub(r"[`*_]|\[|\]\(.*?\)", "", heading["atx"] or heading["under"]).strip()
        if not (title[:1].isdigit() or _SAID_EVERYWHERE.fullmatch(title)):
            yield title, text[heading.end() : after.start() if after else None].strip()


def _item(key: str, query: str, text: str, path: str, title: str = "") -> Item | None:
    """An item, if it is one that a person could ask for."""
    text = text[: _BODY.stop - 1]
    if len(query) not in _QUERY or len(query.split()) < 3 or len(text) not in _BODY:
        return None
    return None if query.casefold() in text.casefold() else Item(key, query, text, path, title)
