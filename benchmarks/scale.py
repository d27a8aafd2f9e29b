"""The whole pipeline at a size: `python -m benchmarks.scale --chunks 1000000`.

1. load: documents are written to MongoDB, and both flows bring them into the embedded store
2. edits: so many a second for some minutes, each of one paragraph, while searches go on
3. damage: one chunk in a hundred is deleted, altered or made an orphan; `flows.reconcile` repairs

Real flows and servers; vectors of 384 components from hashes instead of the model, since what is
asked here is everything else. `--write` puts figures and a plot over time into docs/.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from pymongo import UpdateOne
from qdrant_client import QdrantClient
from qdrant_client import models as q

from benchmarks.place import ROOT, MeasuredFlow, Place, Servers, memory_mb, wait_for
from benchmarks.scale_flow import WideHashingEmbedder
from benchmarks.scale_report import Run, p50_p99, write
from connectors.qdrant import VECTOR_NAME, QdrantSettings, cleaned, vectors_of
from connectors.qdrant.embedded import StoreFolder
from examples.stopwatch import Stopwatch, Write
from flows.logs import escape_unencodable
from models import entry_id_of
from retrieval.client import RetrievalClient

WATCHED: Final = 10
"""Every so many edits, one is watched until it can be searched."""
_WORDS: Final = re.findall(r"[A-Za-z]+", (ROOT / "README.md").read_text())
_POSTS: Final = vectors_of("posts")
_RECORDS: Final = cleaned("posts")


def measure(place: Place, run: Run, per_second: float, minutes: float) -> None:
    """All three parts."""
    documents = run.documents
    client = place.store
    with place.flow("flows.cdc") as cdc:
        with place.flow("benchmarks.scale_flow") as features:
            _load(place, client, run, documents, (features, cdc))
            with _Searches(client, run):
                _edit(place, run, documents, per_second, minutes)
            features.check()
        run.store = _of_the_store(place)
        _say(json.dumps(run.store))
        _damage(client, run, documents)
        # A process of its own, so that what it has embedded was embedded for the repairs.
        with place.flow("benchmarks.scale_flow", {"LOG_LEVEL": "INFO"}) as features:
            wait_for("a consumer", lambda: "ready" in features.output())
            _reconcile_both(place, run)
        told = re.findall(r"chunks: embedded=(\d+)", features.output())
        run.reconcile["embedded_for_the_repairs"] = int(told[-1])
        cdc.check()


def _load(
    place: Place, client: QdrantClient, run: Run, documents: int, flows: Sequence[MeasuredFlow]
) -> None:
    begun = time.monotonic()
    for start in range(0, documents, 500):
        place.database.posts.insert_many(
            [
                _document(number, run.paragraphs)
                for number in range(start, min(documents, start + 500))
            ]
        )
    _say(f"{documents:,} documents written after {time.monotonic() - begun:.0f} s")
    there, changed_at = 0, time.monotonic()
    while there < documents:
        time.sleep(1)
        for flow in flows:
            flow.check()
        now = _count(client, _RECORDS)
        if now != there:
            there, changed_at = now, time.monotonic()
        assert time.monotonic() - changed_at < 120, f"stuck at {there} documents"
    run.chunks = _count(client, _POSTS)
    run.load_s = time.monotonic() - begun
    _say(f"{run.chunks:,} chunks stored after {run.load_s:.0f} s")


def _edit(place: Place, run: Run, documents: int, per_second: float, minutes: float) -> None:
    """Edits of documents in a random order, so that none is edited twice in a while."""
    order = random.Random(1).sample(range(documents), documents)
    begun = time.time()
    with Stopwatch(QdrantSettings(path=place.qdrant)) as stopwatch:
        while (elapsed := time.time() - begun) < 60 * minutes:
            due = int(elapsed * per_second)
            some = [order[number % documents] for number in range(run.edits, due)]
            watched = [
                document for number, document in enumerate(some, run.edits) if number % WATCHED == 0
            ]
            sent = time.time()
            if some:
                place.database.posts.bulk_write(
                    [_change(document, sent, run.paragraphs) for document in some]
                )
                for document in watched:
                    stopwatch.expect(Write("posts", document, False, sent))
            run.edits = due
            time.sleep(0.02)
        run.edits_s = time.time() - begun
        wait_for("the last edits", lambda: not stopwatch.awaited, timeout=600)
        run.fresh = [
            (write.begun_at - begun, 1000 * seconds) for write, seconds in stopwatch.arrived
        ]
    _say(f"{run.edits:,} edits, {p50_p99([ms for _, ms in run.fresh])} ms until searchable")


class _Searches:
    """A search every 100 ms, from another thread."""

    def __init__(self, client: QdrantClient, run: Run) -> None:
        self._retrieval = RetrievalClient(client, WideHashingEmbedder())
        self._run = run
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._search, daemon=True)

    def __enter__(self) -> "_Searches":
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _search(self) -> None:
        number = 0
        while not self._ended.wait(0.1):
            number += 1
            begun = time.monotonic()
            hits = self._retrieval.search(f"query {number}", limit=10)
            assert len(hits) == 10
            self._run.found.append((begun - self._begun, 1000 * (time.monotonic() - begun)))


def _damage(client: QdrantClient, run: Run, documents: int) -> None:
    """A hundredth of the points, one of a document: gone, altered, or of no document at all."""
    victims = random.Random(2).sample(range(documents), run.chunks // 100)
    deleted, altered, orphaned = (victims[kind::3] for kind in range(3))
    for some in _pages(deleted):
        client.delete(_POSTS, [_a_chunk_of(client, number) for number in some])
    for some in _pages(altered):
        ids = [_a_chunk_of(client, number) for number in some]
        client.set_payload(_POSTS, {"content": "altered"}, ids)
    for some in _pages(orphaned):
        client.upsert(_POSTS, [_chunk_of_nobody(number) for number in some])
    run.reconcile["damaged"] = {
        "chunks_deleted": len(deleted),
        "chunks_altered": len(altered),
        "chunks_of_nobody": len(orphaned),
    }


def _reconcile_both(place: Place, run: Run) -> None:
    begun = time.monotonic()
    told, peak = _reconcile(place)
    run.reconcile |= {
        "reconcile": " | ".join(told),
        "reconcile_s": round(time.monotonic() - begun, 1),
        "reconcile_peak_mb": round(peak / 1024),
    }
    again, _ = _reconcile(place, "--report-only")
    run.reconcile["reconcile_again"] = " | ".join(again)
    _say(json.dumps(run.reconcile))


def _pages(numbers: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), 100):
        yield list(numbers[start : start + 100])


def _a_chunk_of(client: QdrantClient, number: int) -> str:
    only = q.Filter(
        must=[q.FieldCondition(key="entry_id", match=q.MatchValue(value=entry_id_of(number)))]
    )
    [point], _ = client.scroll(_POSTS, only, limit=1, with_payload=False)
    return str(point.id)


def _reconcile(place: Place, *options: str) -> tuple[list[str], int]:
    """What a reconciliation says at its end, and its largest resident set in kB."""
    environment = {**os.environ, **place.environment, "LOG_LEVEL": "WARNING"}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale_flow", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        peak, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.2):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    return
                if found := re.search(r"VmHWM:\s+(\d+)", status):
                    peak[0] = int(found[1])

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        ended.set()
        watcher.join()
    assert process.returncode == 0, out
    lines = out.strip().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("reconcile:"))
    return lines[begin:], peak[0]


def _document(number: int, count: int) -> dict[str, Any]:
    chance = random.Random(number)
    paragraphs = "\n\n".join(_paragraph(chance) for _ in range(count))
    return {"_id": number, "platform": "x", "author_id": f"a{number % 50}", "content": paragraphs}


def _paragraph(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=95)) + "."


def _change(number: int, salt: float, count: int) -> UpdateOne:
    """One paragraph of a document becomes another."""
    paragraphs = _document(number, count)["content"].split("\n\n")
    chance = random.Random(f"{number} {salt}")
    paragraphs[chance.randrange(len(paragraphs))] = _paragraph(chance)
    return UpdateOne({"_id": number}, {"$set": {"content": "\n\n".join(paragraphs)}})


def _chunk_of_nobody(number: int) -> q.PointStruct:
    text = f"nobody {number}"
    return q.PointStruct(
        id=str(uuid5(NAMESPACE_URL, text)),
        vector={VECTOR_NAME: WideHashingEmbedder().encode([text])[0].tolist()},
        payload={"entry_id": text, "type": "posts", "content": text, "model": "wide hashing"},
    )


def _of_the_store(place: Place) -> dict[str, Any]:
    """Its size on the disk and in memory."""
    address = StoreFolder(place.qdrant).address()
    assert address is not None
    told = subprocess.run(
        ["du", "-sm", place.qdrant], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    return {
        "store_disk_mb": int(told.split()[0]),
        "store_own_memory_mb": round(memory_mb(address.pid)),
    }


def _count(client: QdrantClient, collection: str) -> int:
    return client.count(collection).count if client.collection_exists(collection) else 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Exit status 0 if everything could be measured."""
    escape_unencodable()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="The whole pipeline at a size."
    )
    parser.add_argument("--chunks", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--paragraphs", type=int, default=10, help="of each document (default: 10)")
    parser.add_argument("--rate", type=float, default=100, help="edits a second (default: 100)")
    parser.add_argument("--minutes", type=float, default=10, help="of edits (default: 10)")
    parser.add_argument("--write", action="store_true", help="write docs/scale.md and its plot")
    options = parser.parse_args()
    with Servers() as servers:
        run = Run(options.chunks // options.paragraphs, options.chunks, options.paragraphs)
        measure(servers.place(), run, options.rate, options.minutes)
    print(json.dumps(run.figures(), indent=1))
    if options.write:
        write(run, " ".join(["python -m benchmarks.scale", *sys.argv[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
