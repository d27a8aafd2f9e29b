"""Compares the two models of a store that is migrated: `python -m retrieval.compare`.

Without queries it takes known items: the headings above a chunk, or its file and function, as the
query, and its document as the answer. Both models embed these headings with each chunk, so such
queries are easier than those of people. Better are your own, in a file, one a line; after a tab,
the `entry_id` of each document that answers it.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from qdrant_client import QdrantClient

from connectors.qdrant import STORE_ERRORS, Collections, one_line, open_reader, read_places, scroll
from flows.command import run_command
from flows.embedding.embedder import TextEmbedder
from flows.logs import say
from flows.places import EmbedderOf, embedders, setting_of
from flows.settings import Settings
from flows.text.context import SEPARATOR
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from models.places import Place, Places
from retrieval.client import RetrievalClient
from retrieval.options import MODES, Mode

_DEPTH: Final = 10
_AT_ONCE: Final = 32
_CHUNKS_OF_EACH: Final = 50
"""Chunks that are looked at for each known item, at most: posts may have no headings."""


class Query(NamedTuple):
    """A query and, where they are known, the documents that answer it."""

    text: str
    answers: frozenset[str] = frozenset()
    """Their `entry_id`."""


class Quality(NamedTuple):
    """What two models make of the same queries."""

    ndcg: tuple[list[float], list[float]]
    """nDCG@10 of each query that has answers, by the searched model and by the other."""
    shared: list[float]
    """Share of the ten best documents that both have, of each query."""


def main(arguments: Sequence[str] | None = None, embedder_of: EmbedderOf | None = None) -> int:
    """Say how well each model finds; the exit code.

    :param embedder_of: instead of the models that the migration names
    :raises ConfigurationError: there are not two models, or no queries
    """
    options = _options(arguments)
    settings = Settings.from_env()
    settings.configure_logging()
    models = embedder_of or embedders(settings)
    try:
        with open_reader(settings.qdrant) as client:
            names = settings.qdrant.collections
            searched, other = _both(read_places(client, names))
            queries = list(
                _read(options.queries)
                if options.queries
                else known_items(client, names.at(searched.id), options.known_items)
            )
            if not queries:
                raise ConfigurationError("no chunk has a heading: name queries with --queries")
            quality = compare(
                client, names, queries, options.mode,
                [(place, models(setting_of(place, settings))) for place in (searched, other)],
            )  # fmt: skip
    except STORE_ERRORS as error:
        raise ConfigurationError(f"Qdrant: {one_line(error)}") from error
    _say(quality, searched, other, len(queries))
    return 0


def compare(
    client: QdrantClient,
    names: Collections,
    queries: Sequence[Query],
    mode: Mode,
    models: Sequence[tuple[Place, TextEmbedder]],
) -> Quality:
    """Search by two models.

    :param models: the places with their models
    """
    found = [
        _found(RetrievalClient(client, embedder, names.at(place.id)), queries, mode)
        for place, embedder in models
    ]
    known = [number for number, query in enumerate(queries) if query.answers]
    old, new = ([ndcg(some[n], queries[n].answers) for n in known] for some in found)
    shared = [
        len({*ours} & {*theirs}) / max(len(ours), len(theirs), 1)
        for ours, theirs in zip(*found, strict=True)
    ]
    return Quality((old, new), shared)


def ndcg(found: Sequence[str], answers: frozenset[str]) -> float:
    """nDCG@10, 1 for documents that are found first, 0 for none of them."""
    gain = sum(1 / math.log2(rank + 2) for rank, one in enumerate(found) if one in answers)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(len(answers), _DEPTH)))


def known_items(client: QdrantClient, names: Collections, most: int) -> Iterator[Query]:
    """A query from each of some documents, whose order is that of their ids: as good as random."""
    for type_ in DOCUMENT_TYPES:
        seen: set[str] = set()
        chunks = names.vectors(type_)
        if not client.collection_exists(chunks):
            continue
        points = scroll(client, chunks, fields=["entry_id", "context"])
        for point in islice(points, _CHUNKS_OF_EACH * most):
            payload = point.payload or {}
            text = str(payload.get("context") or "").replace(SEPARATOR, " ").strip()
            if text and payload["entry_id"] not in seen:
                seen.add(payload["entry_id"])
                yield Query(text, frozenset([payload["entry_id"]]))
            if len(seen) >= most:
                break


def _found(client: RetrievalClient, queries: Sequence[Query], mode: Mode) -> list[list[str]]:
    """The best documents for each query."""
    texts = [query.text for query in queries]
    found = []
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        answers = client.search_many(some, limit=_DEPTH, per_document=1, mode=mode, rerank=False)
        found += [[hit.entry_id for hit in hits] for hits in answers]
    return found


def _both(places: Places | None) -> tuple[Place, Place]:
    other = places.other if places else None
    if places is None or other is None:
        raise ConfigurationError("there is one model only: python -m flows.migrate start MODEL")
    if other.state != "ready":
        raise ConfigurationError(f"{other.model} is {other.state}: let start end first")
    return places.searched, other


def _read(file: str) -> Iterator[Query]:
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    for line in lines:
        text, *answers = (part.strip() for part in line.split("\t"))
        if text:
            yield Query(text, frozenset(filter(None, answers)))


def _say(quality: Quality, searched: Place, other: Place, count: int) -> None:
    say(f"{count} queries, the ten best documents of each")
    old, new = quality.ndcg
    if old:
        say(f"nDCG@10 of {searched.model}, which is searched: {statistics.mean(old):.3f}")
        gains = [b - a for a, b in zip(old, new, strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else math.nan
        say(
            f"nDCG@10 of {other.model}: {statistics.mean(new):.3f}, which is "
            f"{statistics.mean(gains):+.3f} (standard error {error:.3f})"
        )
    say(f"documents in common: {statistics.mean(quality.shared):.0%}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.compare",
        description="Compare the two models of a store that is migrated by what they find.",
        epilog="Exit code 0: compared. 1: there is nothing to compare, or Qdrant does not answer.",
    )
    parser.add_argument(
        "--queries", metavar="FILE",
        help="one a line, then, after tabs, the entry_id of what answers it (default: headings)",
    )  # fmt: skip
    parser.add_argument(
        "--known-items", type=int, default=200, metavar="N",
        help="documents of each type whose headings are queries (default: 200)",
    )  # fmt: skip
    parser.add_argument("--mode", choices=MODES, default="dense", help="default: dense")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command("compare", main))
