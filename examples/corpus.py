"""Real documents that every machine has once this project is installed.

Nothing is downloaded and nothing is invented: articles are the descriptions that installed Python
distributions publish and the topics of Python's own manual, repositories are source files of
installed distributions and of the standard library, posts are docstrings of the standard library.
The texts stay where they are installed, under their own licences.
"""

import hashlib
import importlib
import importlib.metadata
import inspect
import itertools
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bson import ObjectId

Document = dict[str, Any]

# The budgets, in characters, keep the corpus the same size on every machine, however many
# packages it has: about 2,500 chunks, which two cores embed in a minute.
_ARTICLES_FROM_DISTRIBUTIONS = 480_000
_ARTICLES_IN_ALL = 640_000
_REPOSITORIES = 560_000
_POSTS = 300_000

_LONGEST_ARTICLE = 14_000
_LONGEST_POST = 6_000
_SHORTEST_TEXT = 300
_FILES_PER_REPOSITORY = 6
_FILE_BYTES = range(600, 9_000)
_DISTRIBUTION_BYTES = range(4_000, 1_300_000)
_DOCSTRINGS_PER_MODULE = 12

_STANDARD_PACKAGES = ("json", "wsgiref", "logging", "concurrent", "email", "http", "xml", "dbm")
_DOCUMENTED_MODULES = """
    argparse ast asyncio.events asyncio.tasks base64 bisect calendar codecs collections
    concurrent.futures configparser contextlib copy csv dataclasses datetime decimal difflib dis
    email.message enum fractions functools gettext glob gzip hashlib heapq html.parser
    http.client http.cookiejar http.server imaplib importlib.metadata inspect io ipaddress
    itertools json locale logging logging.handlers mailbox math mimetypes multiprocessing.pool
    operator os os.path pathlib pdb pickle pickletools platform plistlib pprint queue random re
    sched secrets selectors shelve shlex shutil signal smtplib socket socketserver sqlite3 ssl
    statistics string struct subprocess tarfile tempfile textwrap threading time timeit tokenize
    traceback types unittest.case urllib.parse urllib.request uuid warnings weakref
    xml.etree.ElementTree zipfile zoneinfo
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One document before it gets its `_id`."""

    key: str
    """Unique within its collection; the `_id` is made from it."""
    document: Document
    """Every field but `_id`."""


def corpus() -> Iterator[tuple[str, Document]]:
    """Yield (collection, document) in a fixed order, the three types evenly mixed.

    The `_id`s are ObjectIds, strings and integers in turn, and the same on every run.
    """
    mixed: list[tuple[float, str, Document]] = []
    for collection, entries in (
        ("articles", _articles()),
        ("posts", _posts()),
        ("repositories", _repositories()),
    ):
        found = list(entries)
        for index, entry in enumerate(found):
            document = {"_id": _identity(entry.key, index), **entry.document}
            mixed.append(((index + 0.5) / len(found), collection, document))
    mixed.sort(key=lambda row: row[:2])
    for _, collection, document in mixed:
        yield collection, document


def _identity(key: str, index: int) -> ObjectId | str | int:
    if index % 3 == 0:
        return ObjectId(hashlib.sha256(key.encode()).digest()[:12])
    return key if index % 3 == 1 else index


def _articles() -> Iterator[_Entry]:
    described = _within(_ARTICLES_FROM_DISTRIBUTIONS, _descriptions())
    yield from _within(_ARTICLES_IN_ALL, itertools.chain(described, _manual_topics()))


def _descriptions() -> Iterator[_Entry]:
    for distribution in _distributions():
        metadata = distribution.metadata
        text = _shorten(_description(distribution), _LONGEST_ARTICLE)
        if len(text) < _SHORTEST_TEXT:
            continue
        name = metadata["Name"]
        yield _Entry(
            name.lower(),
            {
                "platform": "pypi",
                "link": f"https://pypi.org/project/{name}/",
                "content": {
                    "Title": f"{name} {distribution.version}",
                    # None where a distribution has no summary: a value that readers must stand.
                    "Subtitle": metadata.json.get("summary"),
                    "Content": text,
                    "language": "en",
                },
                "author_id": _author(distribution),
            },
        )


def _manual_topics() -> Iterator[_Entry]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name, text in sorted(topics.items()):
        if len(text) < _SHORTEST_TEXT:
            continue
        yield _Entry(
            f"python-manual-{name}",
            {
                "platform": "python-manual",
                "link": f"https://docs.python.org/3/search.html?q={name}",
                "content": {"Title": name, "Content": _shorten(text, _LONGEST_ARTICLE)},
                "author_id": "python",
            },
        )


def _repositories() -> Iterator[_Entry]:
    everything = itertools.chain(_distribution_sources(), _standard_sources())
    yield from _within(_REPOSITORIES, everything)


def _distribution_sources() -> Iterator[_Entry]:
    for distribution in _distributions():
        paths = sorted({str(path) for path in distribution.files or () if path.suffix == ".py"})
        located = {path: Path(str(distribution.locate_file(path))) for path in paths}
        sizes = {path: found.stat().st_size for path, found in located.items() if found.is_file()}
        if sum(sizes.values()) not in _DISTRIBUTION_BYTES:
            continue
        content = _read_some({path: located[path] for path in sizes})
        if content:
            name = distribution.metadata["Name"]
            yield _repository(name, f"https://pypi.org/project/{name}/", content, distribution)


def _standard_sources() -> Iterator[_Entry]:
    library = Path(sysconfig.get_path("stdlib"))
    for name in _STANDARD_PACKAGES:
        found = {
            path.relative_to(library).as_posix(): path for path in (library / name).glob("**/*.py")
        }
        content = _read_some(dict(sorted(found.items())))
        if content:
            yield _repository(name, f"https://docs.python.org/3/library/{name}.html", content)


def _repository(
    name: str,
    link: str,
    content: dict[str, str],
    distribution: importlib.metadata.Distribution | None = None,
) -> _Entry:
    owner = _author(distribution) if distribution else "python"
    key = name.lower() if distribution else f"python-{name}"
    return _Entry(key, {"name": name, "link": link, "content": content, "owner_id": owner})


def _read_some(paths: dict[str, Path]) -> dict[str, str]:
    """Take a few files of middling size, leaving tests and vendored copies aside."""
    content: dict[str, str] = {}
    for name, path in paths.items():
        parts = Path(name).parts
        if any(part in {"tests", "test", "_vendor", "vendored", ".."} for part in parts):
            continue
        if path.stat().st_size not in _FILE_BYTES:
            continue
        content[name] = path.read_text(encoding="utf-8", errors="replace")
        if len(content) == _FILES_PER_REPOSITORY:
            break
    return content


def _posts() -> Iterator[_Entry]:
    yield from _within(_POSTS, _docstrings())


def _docstrings() -> Iterator[_Entry]:
    seen: set[str] = set()
    for module_name in _DOCUMENTED_MODULES.split():
        module = importlib.import_module(module_name)
        taken = 0
        for name, text in _documented(module):
            if text in seen or taken == _DOCSTRINGS_PER_MODULE:
                continue
            seen.add(text)
            taken += 1
            qualified = f"{module_name}.{name}" if name else module_name
            yield _Entry(qualified, _post(qualified, module_name, text, plain=len(seen) % 4 == 0))


def _documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of a module, its public functions and its public classes."""
    members = sorted(
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isroutine(value) or inspect.isclass(value))
    )
    for name, value in [("", module), *members]:
        docstring = value.__doc__
        text = inspect.cleandoc(docstring) if isinstance(docstring, str) else ""
        if _SHORTEST_TEXT <= len(text) <= _LONGEST_POST:
            yield name, text


def _post(name: str, module: str, text: str, *, plain: bool) -> Document:
    content = f"{name}\n\n{text}"
    document: Document = {
        "platform": "docstring",
        "content": content if plain else {"Content": content},
        "author_id": "python",
    }
    if not plain:
        document["link"] = f"https://docs.python.org/3/library/{module}.html#{name}"
        document["image"] = None
    return document


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    """Installed distributions by name, each once, without this project itself."""
    by_name: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name.lower() != "twinstream":
            by_name.setdefault(name.lower(), distribution)
    for _, distribution in sorted(by_name.items()):
        yield distribution


def _description(distribution: importlib.metadata.Distribution) -> str:
    return str(distribution.metadata.json.get("description") or "").strip()


def _author(distribution: importlib.metadata.Distribution) -> str:
    """The first author's name in lower case with hyphens, else the distribution's name."""
    metadata = distribution.metadata.json
    written = metadata.get("author") or metadata.get("author_email") or metadata["name"]
    first = str(written).split(",")[0].split("<")[0].split("@")[0].strip(' "')
    return "-".join(first.lower().split()) or str(metadata["name"]).lower()


def _shorten(text: str, limit: int) -> str:
    """Cut at the last paragraph that ends within `limit` characters."""
    if len(text) <= limit:
        return text
    end = text.rfind("\n\n", 0, limit)
    return text[: end if end > 0 else limit]


def _within(budget: int, entries: Iterator[_Entry]) -> Iterator[_Entry]:
    """Pass entries on until their text has used up `budget` characters."""
    for entry in entries:
        budget -= _length(entry.document["content"])
        if budget < 0:
            return
        yield entry


def _length(content: str | dict[str, str | None]) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(text or "") for text in content.values())
