"""Search the store from the command line: `python -m retrieval.search "how do I …"`, or without a
query for a prompt that keeps the model loaded.
"""

import argparse
import dataclasses
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from connectors.qdrant import STORE_ERRORS, one_line, open_reader
from flows.command import run_command
from flows.embedding.embedder import Embedder
from flows.embedding.reranker import Reranker
from flows.logs import complain, say, say_json
from flows.places import setting_of
from flows.settings import Settings
from flows.text.context import MAX_CHARACTERS, SEPARATOR
from models import DOCUMENT_TYPES, Repository
from models.errors import ConfigurationError, OtherModelError, StoreUnavailableError
from models.places import Place as ModelPlace
from models.shown import shown
from retrieval.client import RetrievalClient
from retrieval.following import Searches
from retrieval.hits import Hit, Place
from retrieval.options import MODES

_ERRORS = (
    ConfigurationError,
    StoreUnavailableError,
    OtherModelError,
    ValueError,
    OSError,
    *STORE_ERRORS,
)
_LINES = 4
_INDENT = " " * 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the best hits and return 0, or print one line on stderr and return 1."""
    options = _options(arguments)
    query = " ".join(options.query)
    if not query.strip() and not sys.stdin.isatty():
        return _fail('no query: python -m retrieval.search "…", or make search q="…"')
    try:
        with _opened() as searches:
            if query.strip():
                _answer(searches.client(), query, options)
                return 0
            return _prompt(searches, options)
    except _ERRORS as error:
        return _fail(_reason(error))


def _prompt(searches: Searches, options: argparse.Namespace) -> int:
    """Answer what is typed, line by line, until its end."""
    say("a query a line; an empty line or Ctrl-D ends it")
    while True:
        try:
            query = input("? ")
        except EOFError:
            return 0
        if not query.strip():
            return 0
        try:
            _answer(searches.client(), _typed(query), options)
        except _ERRORS as error:
            complain(_reason(error))


def _answer(client: RetrievalClient, query: str, options: argparse.Namespace) -> None:
    hits, places = _search(client, query, options)
    if options.json:
        say_json(list(map(_as_json, hits, places)))
    elif hits:
        print_hits(Console(), hits)
    else:
        say("no hits")


def _search(
    client: RetrievalClient, query: str, options: argparse.Namespace
) -> tuple[list[Hit], list[Place | None]]:
    """Hits and, where they are printed, their places."""
    hits = client.search(
        query,
        limit=options.limit,
        offset=options.offset,
        mode=options.mode,
        types=options.type,
        author_id=options.author,
        platform=options.platform,
        entry_id=options.document,
        path=options.path,
        language=options.language,
        tag=options.tag,
        published_after=options.published_after,
        published_before=options.published_before,
        updated_after=options.updated_after,
        updated_before=options.updated_before,
        per_document=options.per_document,
        diversity=options.diversity,
        rerank=None if options.rerank else False,
    )
    return hits, client.places(hits) if options.json else []


@contextmanager
def _opened() -> Iterator[Searches]:
    settings = Settings.from_env()

    def embedder_of(place: ModelPlace | None) -> Embedder:
        model = setting_of(place, settings) if place else settings.embedding_model
        return Embedder(model, settings.embedding_device, settings.embedding_precision)

    with open_reader(settings.qdrant) as store:
        reranker = None
        if settings.reranker_model:
            reranker = Reranker(settings.reranker_model, settings.embedding_device)
            reranker.load()
        yield Searches(store, embedder_of, settings.qdrant.collections, reranker)


def print_hits(console: Console, hits: Sequence[Hit], lines: int = _LINES) -> None:
    """Show hits best first: score, what and where, and the first lines of the chunk."""
    for hit in hits:
        heading = Text.assemble((f"{hit.score:6.3f}  ", "bold green"), (shown(hit.type), "cyan"))
        for part in (hit.name or hit.platform, hit.author_id, _where(hit)):
            if part:
                heading.append(" · ", "dim").append(shown(part))
        if hit.link:
            heading.append(f"  {shown(hit.link)}", "dim")
        for line in [
            heading,
            *(Text(_INDENT).append_text(line) for line in _excerpt(console, hit, lines)),
        ]:
            line.rstrip()
            line.truncate(console.width, overflow="ellipsis")
            console.print(line, highlight=False, soft_wrap=True)


def _where(hit: Hit) -> str:
    """Where a chunk stands, without the title of an article, which is shown as its name."""
    title = " ".join((hit.name or "").split())[:MAX_CHARACTERS].strip()
    parts = (hit.context or hit.path or "").split(SEPARATOR)
    return SEPARATOR.join(part for part in parts if part != title)


def _excerpt(console: Console, hit: Hit, lines: int) -> list[Text]:
    """The first lines of a chunk: code as it is, prose wrapped to the width."""
    if hit.type == Repository.type:
        code = textwrap.dedent(hit.content.expandtabs(4)).splitlines()
        return [Text(shown(line)) for line in code if line.strip()][:lines]
    # The width in cells counts, which for Chinese is two a character.
    width = console.width - len(_INDENT)
    prose = Text(shown(" ".join(hit.content.split()), limit=10_000))
    return list(prose.wrap(console, width))[:lines]


def _as_json(hit: Hit, place: Place | None) -> dict[str, Any]:
    fields = dataclasses.asdict(hit)
    del fields["id"]
    return {**fields, "position": place.position if place else None}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.search",
        description="Search the stored chunks by meaning and by words. A features flow may be "
        "running.",
        epilog="Exit code 0: done, with or without hits. 1: the store cannot be searched.",
    )
    parser.add_argument("query", nargs="*", type=_typed, help="the question (default: a prompt)")
    parser.add_argument("--limit", type=int, default=5, help="number of hits (default: 5)")
    parser.add_argument("--offset", type=int, default=0, help="hits to leave out before the first")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="by meaning (dense), by words (sparse) or by both (default)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        choices=list(DOCUMENT_TYPES),
        help="search documents of this type only; may be repeated",
    )
    parser.add_argument("--author", type=_typed, help="search documents of this author_id only")
    parser.add_argument("--platform", type=_typed, help="search documents of this platform only")
    parser.add_argument("--document", type=_typed, help="search the document of this entry_id only")
    parser.add_argument("--path", type=_typed, help="search this file or field only")
    parser.add_argument("--language", type=_typed, help="search documents of this language only")
    parser.add_argument("--tag", type=_typed, help="search documents with this tag only")
    for what in ("published", "updated"):
        parser.add_argument(
            f"--{what}-after", metavar="DATE", help=f"search what was {what} on this day or later"
        )
        parser.add_argument(
            f"--{what}-before", metavar="DATE", help=f"search what was {what} before this day"
        )
    parser.add_argument("--per-document", type=int, help="hits of one document at most")
    parser.add_argument(
        "--diversity",
        type=float,
        metavar="D",
        help="from 0 to 1: how much a hit loses by being like those before it (default: 0)",
    )
    parser.add_argument(
        "--no-rerank",
        dest="rerank",
        action="store_false",
        help="search without the model that RERANKER_MODEL names",
    )
    parser.add_argument("--json", action="store_true", help="print the hits as a JSON array")
    return parser.parse_args(arguments)


def _typed(argument: str) -> str:
    """An argument as it was typed: Python hides bytes that the locale has no character for."""
    hidden = any("\ud800" <= character <= "\udfff" for character in argument)
    return os.fsencode(argument).decode(errors="replace") if hidden else argument


def _reason(error: Exception) -> str:
    return f"Qdrant: {one_line(error)}" if isinstance(error, STORE_ERRORS) else str(error)


def _fail(message: str) -> int:
    complain(message)
    return 1


if __name__ == "__main__":
    sys.exit(run_command("search", main))
