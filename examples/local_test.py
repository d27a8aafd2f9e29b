"""`make local-test-medium`, `make local-test-github`: collect one source and see it found.

1. start a private broker and a MongoDB-compatible server under `.data/local-test`
2. store a few other documents, so that a search has something to choose from
3. collect one source: that which SOURCE names, else one that is served here
4. run both flows until everything is searchable
5. search; the exit status is 0 only if a document that was collected is the best hit
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pymongo

from connectors.qdrant import open_reader
from connectors.qdrant.embedded import StoreFolder, stop
from examples.collecting import collect_into
from examples.local_sources import (
    QUESTION_OF_FEED,
    QUESTION_OF_REPOSITORY,
    Sources,
    local_sources,
)
from examples.new_documents import NEW_DOCUMENTS
from examples.pipeline import Pipeline, environment
from examples.place import ExampleError, own_folder
from examples.screen import Screen
from flows.logs import escape_unencodable
from flows.settings import Settings
from models import DOCUMENT_TYPES, entry_id_of
from models.errors import TwinstreamError
from models.shown import shown
from ops.flow_process import ROOT, FlowEndedError, FlowProcesses
from ops.interrupt import Interrupted, interrupt_on_signals
from ops.local_server import StackError
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from retrieval.client import RetrievalClient
from retrieval.search import print_hits
from retrieval.sync import compare

DATA: Final = ROOT / ".data" / "local-test"
FLOWS: Final = {"cdc": "flows.cdc", "features": "flows.features"}
_QUESTIONS: Final = {"medium": QUESTION_OF_FEED, "github": QUESTION_OF_REPOSITORY}
_LONGEST_S: Final = 900.0
_LONGEST_QUESTION: Final = 200

Collected = list[tuple[str, dict[str, Any]]]


def main(kind: str, source: str) -> int:
    """Collect and search; 0 only if what was collected is found."""
    escape_unencodable()
    screen = Screen()
    interrupt_on_signals()
    try:
        with own_folder(DATA):
            return _run(screen, kind, source)
    except Interrupted as interrupted:
        print("\ninterrupted; everything that was started has been ended", file=sys.stderr)
        return 128 + interrupted.number
    except (ExampleError, FlowEndedError, StackError, TwinstreamError) as error:
        print(f"\n{shown(error)}", file=sys.stderr)
        return 1


def _run(screen: Screen, kind: str, source: str) -> int:
    screen.title(
        f"twinstream: {shown(source or 'a source of this machine')} → MongoDB → … → Qdrant"
    )
    with contextlib.ExitStack() as stack:
        mongo = stack.enter_context(MongoServer(DATA / "mongodb"))
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo.uri)
        database = stack.enter_context(client)["twin"]
        broker = stack.enter_context(RabbitMQNode(DATA / "rabbitmq"))
        variables = environment(mongo, broker, DATA)
        screen.step(f"private servers are up: MongoDB on {mongo.port}, RabbitMQ on {broker.port}")

        with _sources(kind, source) as sources:
            collected = collect_into(database, sources, variables, DATA)
        for line in (DATA / "collect.log").read_text("utf-8", "replace").splitlines():
            if " INFO " not in line:
                screen.note(shown(line))
        if not collected:
            raise ExampleError("the source has no documents")
        screen.step(f"flows.collect has written {len(collected):,} documents")
        for collection, document in NEW_DOCUMENTS:
            database[collection].insert_one(dict(document))

        stack.callback(stop, StoreFolder(DATA / "qdrant"))
        flows = stack.enter_context(FlowProcesses(FLOWS, variables, DATA))
        pipeline = Pipeline(database, flows, Settings.from_env(variables))
        chunks = _until_in_sync(screen, pipeline)
        screen.step(f"everything is searchable, in {chunks:,} chunks")
        return _search(screen, pipeline, collected, _question(kind, source, collected))


@contextlib.contextmanager
def _sources(kind: str, source: str) -> Iterator[Sources]:
    """The table of the source to collect."""
    if source:
        yield {kind: named_source(kind, source)}
        return
    with local_sources(DATA / "served") as both:
        yield {kind: both[kind]}


def named_source(kind: str, source: str) -> dict[str, Any]:
    """The table of a source that a person names: a link, @name of Medium, owner/name of GitHub."""
    if kind == "medium":
        if source.startswith("@"):
            source = f"https://medium.com/feed/{source}"
        return {"kind": "feed", "url": source, "author": "local-test"}
    if "://" not in source:
        source = f"https://github.com/{source.strip('/')}"
    return {"kind": "git", "url": source, "author": "local-test"}


def _question(kind: str, source: str, collected: Collected) -> str:
    """What to ask: of a source that we do not know, the beginning of its first long text."""
    if not source:
        return _QUESTIONS[kind]
    content = collected[0][1]["content"]
    texts = [content] if isinstance(content, str) else [*content.values()]
    lines = [" ".join(line.split()) for text in texts for line in text.splitlines()]
    return next((line for line in lines if len(line) > 20), "what is it about?")[:_LONGEST_QUESTION]


def _until_in_sync(screen: Screen, pipeline: Pipeline) -> int:
    """Wait until nothing differs; the number of chunks.

    :raises ExampleError: it takes too long
    """
    expected = pipeline.expected()
    chunks = sum(expected.chunks(type_) for type_ in DOCUMENT_TYPES)
    until = time.monotonic() + _LONGEST_S
    with screen.progress("chunks searchable:", chunks) as meter:
        while differences := compare(expected, stored := pipeline.stored()):
            pipeline.flows.check()
            if time.monotonic() > until:
                raise ExampleError(f"not in sync: {differences[0]}; see .data/local-test")
            meter.show(sum(stored.chunks(type_) for type_ in DOCUMENT_TYPES))
            time.sleep(0.5)
    return chunks


def _search(screen: Screen, pipeline: Pipeline, collected: Collected, question: str) -> int:
    identities = {(type_, entry_id_of(row["_id"])) for type_, row in collected}
    with open_reader(pipeline.store) as client:
        hits = RetrievalClient(client, pipeline.embedder).search(question, limit=3)
    screen.title(f"“{shown(question)}”")
    print_hits(screen.console, hits, lines=3)
    found = bool(hits) and (hits[0].type, hits[0].entry_id) in identities
    screen.title("found" if found else "NOT found: the best hit is of another document")
    return 0 if found else 1


def _named(environment: Mapping[str, str]) -> str:
    """SOURCE, without bytes that are no characters."""
    return os.fsencode(environment.get("SOURCE", "")).decode(errors="replace").strip()


if __name__ == "__main__":
    if sys.argv[1:] not in [[kind] for kind in _QUESTIONS]:
        sys.exit(f"usage: python -m examples.local_test {'|'.join(_QUESTIONS)}")
    sys.exit(main(sys.argv[1], _named(os.environ)))
