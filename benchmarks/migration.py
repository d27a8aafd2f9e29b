"""A change of the model beside edits, deletes and kills: `python -m benchmarks.migration`.

The old model is the packaged all-MiniLM-L6-v2. There is no second one on every machine, so the new
one is made of it: its vectors projected to 256 components, the principal ones of the documents, and
at most 128 tokens instead of 256, so that it cuts otherwise. All else is the real thing: servers,
flows and commands as processes. The documents are those of `make eval`; beside them, posts are
edited, deleted and inserted all the time. Half way, the backfill, the features flow and the server
of the store are killed with SIGKILL.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.known_items import Item, sets
from benchmarks.measures import mean, ndcg
from benchmarks.place import Place, Servers, wait_for
from connectors.qdrant import STORE_ERRORS, scroll
from connectors.qdrant.embedded import StoreFolder
from connectors.qdrant.names import Collections
from flows.embedding.embedder import Embedder, TextEmbedder, Vectors, locate_model
from flows.migrate import Migration
from flows.places import embedders
from flows.settings import Settings
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES
from models.fresh import embedded_text, text_hash
from models.places import Place as ModelPlace
from ops.flow_process import ROOT
from retrieval.following import Searches
from retrieval.sync import compare, expected_state, stored_state

FLOW: Final = "benchmarks.migration_flow"
PER_SET: Final = 150
POSTS: Final = 60
QUERIES: Final = 40
"""Of each set."""
EDITS_PER_S: Final = 4.0
COMPONENTS: Final = 256
TOKENS: Final = 128
_WORDS: Final = ("vector", "store", "change", "stream", "queue", "chunk", "token", "broker")


def make_model(folder: Path, texts: Sequence[str]) -> Path:
    """The packaged model, cut to the principal components of some texts."""
    from sentence_transformers import SentenceTransformer, models

    model = SentenceTransformer(locate_model("")[0], device="cpu")
    vectors = np.asarray(model.encode(list(texts), show_progress_bar=False))
    principal = np.linalg.svd(vectors, full_matrices=False)[2][:COMPONENTS]
    import torch

    dense = models.Dense(
        vectors.shape[1], COMPONENTS, bias=False, activation_function=torch.nn.Identity(),
        init_weight=torch.tensor(principal),
    )  # fmt: skip
    model[0].max_seq_length = TOKENS
    made = folder / f"MiniLM-{COMPONENTS}"
    SentenceTransformer(modules=[model[0], model[1], dense], device="cpu").save(str(made))
    return made


class Keeping:
    """An embedder that keeps its vectors: what a fresh sync stores is asked for several times."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.dimension = embedder.name, embedder.dimension
        self.max_tokens, self.tokenizer = embedder.max_tokens, embedder.tokenizer
        self._kept: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Those that are not kept come from the model."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        self._kept |= zip(new, self._embedder.encode(new), strict=True)
        return np.stack([self._kept[text] for text in texts])


class Editing:
    """Edits, deletes and inserts posts at random, which no query asks for."""

    def __init__(self, place: Place) -> None:
        self._posts = place.database.posts
        self._random = random.Random(7)
        self.writes = 0

    def replace(self, number: int) -> None:
        text = " ".join(self._random.choices(_WORDS, k=self._random.randint(20, 300)))
        post = {"platform": "docs", "content": f"{self._random.random()} {text}"}
        self._posts.replace_one({"_id": f"post {number}"}, post, upsert=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        done = threading.Event()

        def write() -> None:
            while not done.wait(1 / EDITS_PER_S):
                number = self._random.randrange(POSTS)
                if self._random.random() < 0.25:
                    self._posts.delete_one({"_id": f"post {number}"})
                else:
                    self.replace(number)
                self.writes += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Quality:
    """nDCG@10 of known items, again and again, with the model that answered."""

    def __init__(self, searches: Searches, items: Sequence[Item]) -> None:
        self._searches = searches
        self._items = items
        self.measured: list[tuple[str, float]] = []
        self.failures: list[str] = []

    def measure(self) -> tuple[str, float]:
        """By the model of this moment."""
        client = self._searches.client()
        queries = [item.query for item in self._items]
        types = ("articles", "repositories")
        found = client.search_many(queries, limit=10, types=types, mode="dense", per_document=1)
        ranks = [
            next((rank for rank, hit in enumerate(hits) if hit.entry_id == item.key), None)
            for item, hits in zip(self._items, found, strict=True)
        ]
        return client._embedder.name, mean([ndcg(rank) for rank in ranks]).value

    @contextmanager
    def running(self) -> Iterator[None]:
        done = threading.Event()

        def measure() -> None:
            while not done.wait(0.5):
                try:
                    self.measured.append(self.measure())
                except STORE_ERRORS:  # its server was killed
                    continue
                except Exception as error:  # noqa: BLE001 (none may come)
                    self.failures.append(repr(error))

        thread = threading.Thread(target=measure)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def command(place: Place, *arguments: str) -> "subprocess.Popen[str]":
    """A command of `flows.migrate`, or `compare`."""
    program = ["retrieval.compare"] if arguments == ("compare",) else ["flows.migrate", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        cwd=ROOT, env={**os.environ, **place.environment, "LOG_LEVEL": "INFO"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def done(place: Place, *arguments: str) -> float:
    """Seconds that a command takes as a process, with the start of Python."""
    began = time.monotonic()
    with command(place, *arguments) as process:
        said, _ = process.communicate(timeout=500)
    print(f"$ {' '.join(arguments)}\n{said.rstrip()}", flush=True)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}")
    return time.monotonic() - began


def records(place: Place, at: str) -> int:
    """Documents in a place."""
    names = Collections().at(at)
    try:
        return sum(place.store.count(names.cleaned(type_)).count for type_ in DOCUMENT_TYPES)
    except STORE_ERRORS:
        return 0


def wrong(place: Place, embedder: Keeping, at: str) -> list[str]:
    """How a place differs from a fresh sync."""
    documents = (
        (type_, document) for type_ in DOCUMENT_TYPES for document in place.database[type_].find()
    )
    chunker = Chunker(embedder.tokenizer, embedder.max_tokens)
    expected = expected_state(documents, chunker, embedder)
    stored = stored_state(place.store, with_vectors=True, collections=Collections().at(at))
    return compare(expected, stored)


def run(servers: Servers, documents_of_each: int) -> dict[str, Any]:  # noqa: PLR0915 (one story, told in its order)
    """Migrate; the figures."""
    place = servers.place()
    items = [(one, one.items[:documents_of_each]) for one in sets()]
    for one, some in items:
        documents = [document for _, document in one._replace(items=some).documents()]
        place.database[one.type].insert_many(documents)
    editing = Editing(place)
    for number in range(POSTS):
        editing.replace(number)
    queries = [item for _, some in items for item in some[:QUERIES]]
    texts = [item.text[:400] for one, _ in items for item in one.items[:PER_SET]]
    new_path = make_model(place.folder, texts)
    log = place.folder / "embedded"
    environment = {"EMBEDDED_LOG": str(log), "LOG_LEVEL": "INFO"}
    settings = Settings.from_env({**place.environment})
    old, new = (Keeping(Embedder(model)) for model in ("", str(new_path)))

    def embedder_of(found: ModelPlace | None) -> TextEmbedder:
        return new if found and found.setting else old

    figures: dict[str, Any] = {}
    quality = Quality(Searches(place.store, embedder_of), queries)

    def searched_by(embedder: Keeping) -> None:
        wait_for(embedder.name, lambda: quality.measured[-1][0] == embedder.name, 60)

    with place.flow("flows.cdc"), contextlib.ExitStack() as flows:
        features = flows.enter_context(place.flow(FLOW, environment))
        total = sum(len(some) for _, some in items) + POSTS
        wait_for("the first sync", lambda: records(place, "") == total, 300)
        wait_for("its last chunks", lambda: not wrong(place, old, ""), 60, 2)
        _, before = quality.measure()
        with editing.running(), quality.running():
            backfill = command(place, "start", str(new_path))
            wait_for("a third of the backfill", lambda: records(place, "2") > total / 3, 200)
            backfill.send_signal(signal.SIGKILL)
            assert backfill.wait() == -signal.SIGKILL
            features.kill()
            flows.enter_context(place.flow(FLOW, environment))
            again = command(place, "start", str(new_path))
            wait_for("two thirds", lambda: records(place, "2") > 2 * total / 3, 200)
            address = StoreFolder(place.qdrant).address()
            assert address
            os.kill(address.pid, signal.SIGKILL)
            said, _ = again.communicate(timeout=500)
            print(said, flush=True)
            assert again.returncode == 0
            until = [value for _, value in quality.measured]
            done(place, "status")
            done(place, "compare")
            done(place, "switch")
            searched_by(new)
            figures["rollback, the whole command, s"] = done(place, "rollback")
            searched_by(old)
            migration = Migration(settings, place.store, embedders(settings))
            migration.switch()
            began = time.monotonic()
            migration.rollback()
            figures["rollback, s"] = time.monotonic() - began
            migration.switch()
            searched_by(new)
        figures |= {"edits and deletes": editing.writes, "searches": 120 * len(quality.measured)}
        for embedder, at in ((old, ""), (new, "2")):
            with contextlib.suppress(TimeoutError):
                wait_for("sync", lambda e=embedder, a=at: not wrong(place, e, a), 90, 2)  # type: ignore[misc]
            figures[f"lost, stale or resurrected, {embedder.name}"] = len(
                wrong(place, embedder, at)
            )
        figures["nDCG@10, old model, before"] = before
        figures["nDCG@10, the least until the switch, less that"] = min(until) - before
        figures["nDCG@10, new model, after"] = quality.measure()[1]
        figures["failed searches"] = quality.failures
        figures["embeddings per chunk beside edits"] = per_chunk(place, log, new)
        done(place, "remove")
    return figures


def per_chunk(place: Place, log: Path, embedder: Keeping) -> float:
    """Texts of documents that nobody edited which the new model has embedded, for each chunk."""
    names = Collections().at("2")
    texts = [
        text_hash(embedded_text(point.payload or {}))
        for type_ in ("articles", "repositories")
        for point in scroll(place.store, names.vectors(type_))
    ]
    lines = (line.split() for line in log.read_text().splitlines())
    wanted = set(texts)
    embedded = sum(name == embedder.name and text in wanted for name, text in lines)
    return embedded / len(texts)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.migration", description="Change the model of a live store."
    )
    parser.add_argument("--documents", type=int, default=PER_SET, help="of each of three sets")
    options = parser.parse_args()
    with Servers() as servers:
        figures = run(servers, options.documents)
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
