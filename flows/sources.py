"""`sources.toml`: what is to be collected, checked as a whole before anything is read."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connectors.collect import feeds, git, json_files, linkedin, markdown, pages
from connectors.collect.table import Table
from models.collected import Reader
from models.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS: Final[Mapping[str, Callable[[Table], Reader]]] = {
    "feed": feeds.parse,
    "pages": pages.parse,
    "git": git.parse,
    "linkedin": linkedin.parse,
    "jsonl": json_files.parse_jsonl,
    "mongoexport": json_files.parse_mongoexport,
    "markdown": markdown.parse,
}
"""Makes the reader of each kind of source."""

_FORM: Final = 1
"""Counted up where readers come to read the same thing differently: everything is read again."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OF_THE_WRITER: Final = ("interval", "prune", "formerly")


@dataclass(frozen=True, slots=True)
class Source:
    """One source, ready to be read."""

    name: str
    reader: Reader
    mark: str
    """Of its options: a state belongs to one mark."""
    interval_s: float = 900.0
    prune: bool = False
    """Whether what it does not offer any more is deleted."""
    formerly: tuple[str, ...] = ()
    """Former names, whose documents are its own."""


class SourcesError(ConfigurationError):
    """Mistakes in `sources.toml`, one line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


def load_sources(
    file: Path,
    environment: Mapping[str, str],
    kinds: Mapping[str, Callable[[Table], Reader]] = KINDS,
) -> list[Source]:
    """Every source of the file, in its order.

    :param environment: holds the secrets that sources name
    :raises SourcesError: it cannot be read, or not all of it can be meant
    """
    try:
        content = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise SourcesError(
            [f"{file}: there is no such file: copy sources.example.toml, or set COLLECT_SOURCES"]
        ) from error
    except (OSError, UnicodeError) as error:
        raise SourcesError([f"{file} cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SourcesError([f"{file} is not TOML: {error}"]) from error
    tables = content.get("sources")
    mistakes = [f"{name} is unknown: a source is a table [sources.<name>]" for name in content]
    mistakes = [line for line in mistakes if not line.startswith("sources ")]
    if not isinstance(tables, dict) or not tables:
        raise SourcesError([f"{file}: {line}" for line in [*mistakes, "it names no [sources.…]"]])
    sources = []
    for name, options in tables.items():
        source, found = _source(name, options, file.parent, environment, kinds)
        mistakes += found
        sources.append(source)
    mistakes += _former_names(sources)
    if mistakes:
        raise SourcesError([f"{file}: {line}" for line in mistakes])
    return sources


def _source(
    name: str,
    options: Any,
    folder: Path,
    environment: Mapping[str, str],
    kinds: Mapping[str, Callable[[Table], Reader]],
) -> tuple[Source, list[str]]:
    if not isinstance(options, dict):
        return _stand_in(name), [f"sources.{name} is no table: write [sources.{name}]"]
    table = Table(name, options, folder, environment)
    if not _NAME.fullmatch(name):
        table.mistake("its name", "takes small letters, digits, - and _, at most 63 of them")
    kind = table.choice("kind", None, tuple(kinds))
    if kind not in kinds:
        return _stand_in(name), table.mistakes[:1]  # nobody knows the options of an unknown kind
    table.text("author")
    source = Source(
        name,
        kinds[kind](table),
        _mark(options),
        interval_s=table.number("interval", 900, 1, 31 * 86400),
        prune=table.boolean("prune"),
        formerly=table.texts("formerly"),
    )
    return source, table.mistakes


def _stand_in(name: str) -> Source:
    return Source(name, reader=None, mark="")  # type: ignore[arg-type]  # never read: a mistake was found


def _mark(options: Mapping[str, Any]) -> str:
    """Of everything that says what is read and how, without the secrets it names."""
    told = {key: value for key, value in options.items() if key not in _OF_THE_WRITER}
    described = json.dumps([_FORM, told], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _former_names(sources: list[Source]) -> list[str]:
    names = {source.name for source in sources}
    claimed: set[str] = set()
    mistakes = []
    for source in sources:
        for former in source.formerly:
            if former in names or former in claimed:
                mistakes.append(
                    f"[sources.{source.name}] formerly: {former} is the name of another source"
                )
            claimed.add(former)
    return mistakes
