"""`make demo`: the whole pipeline from nothing, on real documents, in a few minutes.

1. start a private broker and a MongoDB-compatible server under `.data/demo`
2. collect a feed and a repository, which are served here, with `flows.collect`
3. load the first part of the corpus, start both flows, load the rest while they run
4. wait until everything is searchable
5. edit, replace, delete and add documents at a gentle rate, timing each until it can be found
6. wait until Qdrant holds exactly what a fresh sync of MongoDB would produce
7. search, stop the flows, and sum up; the exit status is 0 only if both sides are in sync
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import pymongo
from pymongo.database import Database

from connectors.qdrant import open_reader
from connectors.qdrant.embedded import StoreFolder, stop
from examples.collecting import collect_into
from examples.corpus import corpus
from examples.edits import Edit, edits
from examples.local_sources import local_sources
from examples.pipeline import Pipeline, environment
from examples.place import ExampleError, own_folder
from examples.screen import Screen
from examples.stopwatch import Stopwatch, Write
from examples.summary import sum_up
from flows.command import without_options
from flows.logs import escape_unencodable
from flows.settings import Settings
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError
from models.shown import shown
from ops.flow_process import ROOT, FlowEndedError, FlowProcesses
from ops.interrupt import Interrupted, interrupt_on_signals
from ops.local_server import StackError
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from retrieval.client import RetrievalClient
from retrieval.search import print_hits
from retrieval.sync import State, compare

FLOWS: Final = {"cdc": "flows.cdc", "features": "flows.features"}
DATA: Final = ROOT / ".data" / "demo"
SEARCHES: Final = (
    "how do I parse command line arguments?",
    "怎样让检索总是返回文章的最新版本？",
    "Comment découper un texte sans casser les phrases ?",
    "rate limiter middleware that answers 429 Too Many Requests",
)

_LOADED_BEFORE: Final = 0.5
_EDITS_PER_SECOND: Final = 4.0
_STUCK_S: Final = 90.0

Documents = list[tuple[str, dict[str, Any]]]


def main() -> int:
    """Run the demo; 0 only if in sync."""
    escape_unencodable()
    screen = Screen()
    interrupt_on_signals()
    try:
        with _only_demo():
            return _run(screen)
    except Interrupted as interrupted:
        print("\ninterrupted; everything that the demo started has been ended", file=sys.stderr)
        return 128 + interrupted.number
    except (ConfigurationError, ExampleError, FlowEndedError, StackError) as error:
        print(f"\n{shown(error)}", file=sys.stderr)
        return 1


def _run(screen: Screen) -> int:
    screen.title("twinstream: MongoDB → RabbitMQ → clean → chunk → embed → Qdrant")
    documents = list(corpus())
    first = int(len(documents) * _LOADED_BEFORE)
    with contextlib.ExitStack() as stack:
        mongo = stack.enter_context(MongoServer(DATA / "mongodb"))
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo.uri)
        database = stack.enter_context(client)["twin"]
        broker = stack.enter_context(RabbitMQNode(DATA / "rabbitmq"))
        screen.step(f"private servers are up: MongoDB on {mongo.port}, RabbitMQ on {broker.port}")

        variables = environment(mongo, broker, DATA)
        with local_sources(DATA / "served") as sources:
            collected = collect_into(database, sources, variables, DATA)
        screen.step(f"flows.collect read a feed and a repository: {len(collected)} documents")

        _load(database, documents[:first])
        screen.step(f"{first:,} documents loaded, which the snapshot will find")

        stack.callback(stop, StoreFolder(DATA / "qdrant"))
        flows = stack.enter_context(FlowProcesses(FLOWS, variables, DATA))
        pipeline = Pipeline(database, flows, Settings.from_env(variables))
        screen.step("both flows started; logs are in .data/demo/cdc.log and features.log")

        _load(database, documents[first:], pause=0.2)
        screen.step(f"{len(documents) - first:,} more documents written while the flows run")
        loaded = _until_in_sync(screen, pipeline)
        chunks = sum(loaded.chunks(type_) for type_ in DOCUMENT_TYPES)
        total = len(collected) + len(documents)
        screen.step(f"everything is searchable: {total:,} documents, {chunks:,} chunks")

        planned = list(edits(documents))
        seconds = _edit(screen, pipeline, planned)
        _until_in_sync(screen, pipeline)
        screen.step("in sync again: ids and payloads equal those of a fresh sync of MongoDB")

        _search(screen, pipeline)
        return sum_up(screen, pipeline, loaded, planned, seconds)


def _load(
    database: Database[dict[str, Any]], documents: Documents, pause: float = 0.0, size: int = 25
) -> None:
    for start in range(0, len(documents), size):
        for collection in DOCUMENT_TYPES:
            some = [row for name, row in documents[start : start + size] if name == collection]
            if some:
                database[collection].insert_many(some)
        time.sleep(pause)


def _until_in_sync(screen: Screen, pipeline: Pipeline) -> State:
    """Wait until nothing differs, as long as there is progress; return what is stored.

    :raises ExampleError: nothing has changed for a while, and both sides still differ
    """
    expected = pipeline.expected()
    total = sum(len(points) for points in expected.points.values())
    chunks = sum(expected.chunks(type_) for type_ in DOCUMENT_TYPES)
    previous, changed_at = None, time.monotonic()
    with screen.progress("documents searchable:", total - chunks) as meter:
        while True:
            pipeline.flows.check()
            looked_at = time.monotonic()
            stored = pipeline.stored()
            differences = compare(expected, stored)
            if not differences:
                return stored
            if differences != previous:
                previous, changed_at = differences, time.monotonic()
            if time.monotonic() - changed_at > _STUCK_S:
                raise ExampleError(f"not in sync, {len(differences)} differences: {differences[0]}")
            documents = sum(stored.documents(type_) for type_ in DOCUMENT_TYPES)
            found = sum(stored.chunks(type_) for type_ in DOCUMENT_TYPES)
            meter.show(documents, f"{found:,} of {chunks:,} chunks")
            # A look reads the whole store, and the flows need the processor more.
            time.sleep(min(3.0, max(0.3, 8 * (time.monotonic() - looked_at))))


def _edit(screen: Screen, pipeline: Pipeline, planned: Sequence[Edit]) -> list[float]:
    """Make all edits and return the seconds that each took until a reader found it."""
    next_at = time.monotonic()
    with Stopwatch(pipeline.store) as stopwatch:
        with screen.progress("edits made:", len(planned)) as meter:
            for number, edit in enumerate(planned, 1):
                deleted = edit.kind == "deleted"
                write = Write(edit.collection, edit.identity, deleted, time.time())
                edit.apply(pipeline.database)
                stopwatch.expect(write)
                meter.show(number, f"{stopwatch.awaited} on their way")
                next_at += 1 / _EDITS_PER_SECOND
                time.sleep(max(0.0, next_at - time.monotonic()))
        kinds = Counter(edit.kind for edit in planned)
        made = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        screen.step(f"documents edited at {_EDITS_PER_SECOND:.0f} a second: {made}")
        _wait(lambda: stopwatch.awaited == 0, pipeline)
    return [seconds for _, seconds in stopwatch.arrived]


def _wait(condition: Callable[[], bool], pipeline: Pipeline) -> None:
    give_up_at = time.monotonic() + _STUCK_S
    while not condition():
        pipeline.flows.check()
        if time.monotonic() > give_up_at:
            raise ExampleError("some edits cannot be found in Qdrant; see .data/demo/features.log")
        time.sleep(0.05)


def _search(screen: Screen, pipeline: Pipeline) -> None:
    with open_reader(pipeline.store) as client:
        retrieval = RetrievalClient(client, pipeline.embedder)
        for query in SEARCHES:
            screen.title(f"“{query}”")
            print_hits(screen.console, retrieval.search(query, limit=2), lines=3)


def _only_demo() -> contextlib.AbstractContextManager[None]:
    return own_folder(DATA)


if __name__ == "__main__":
    without_options(
        "examples.demo",
        "Run the whole pipeline on real documents, from nothing, in .data/demo, which is wiped.",
        "Exit code 0: Qdrant held exactly the contents of MongoDB at the end. 1: it did not, or "
        "the demo could not run.",
    )
    sys.exit(main())
