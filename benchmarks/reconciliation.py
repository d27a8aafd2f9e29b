"""Reconciliation of many documents: memory for each, and whether it finds what is wrong.

    python -m benchmarks.reconciliation --documents 1000000

Both sides are made up as they are read, so only the comparison itself costs memory: its tally, its
second look, its findings and its repairs are those of `flows.reconcile`. One document in a hundred
is damaged. Points come in another order than documents, as from a store that sorts by point id.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Final

from bytewax.testing import run_main

from benchmarks.place import Servers, memory_mb, on_path
from benchmarks.report import Measured
from connectors.qdrant import ScannedPoint
from connectors.scan import ScanSource
from flows.operators.prepare import chunk, clean_with, decode
from flows.reconciliation import Report, build, expect_with
from flows.second_look import SecondLook
from flows.text.chunk import Span
from flows.text.clean import clean_texts
from models import CapturedChange, ChangeEvent, Delivery, Message
from models.fresh import fresh_points, without_text
from models.identity import record_id
from models.prepared import Upsert
from models.stored import Key

DOCUMENTS: Final = 200_000
CHUNKS: Final = 3
DAMAGED: Final = 100
"""One document in so many has lost its record, has a forged chunk, or one too many."""
_MODEL: Final = "synthetic"
_STRIDE: Final = 7_368_787
"""A prime: its multiples visit each number once."""


def reconciliation(_servers: Servers) -> dict[str, Measured]:
    """Peak of the process's own memory over what it was before, for each document."""
    found = json.loads(on_path(["benchmarks.reconciliation", "--documents", str(DOCUMENTS)]))
    holds = found["damaged"] == found["found"] == found["repairs"]
    return {"reconcile_bytes_per_document": Measured(found.pop("bytes_per_document"), found, holds)}


class ThreeChunks:
    """Cuts a text into three chunks of the same length."""

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """See `flows.text.chunk.Splitter`."""
        cuts = [[len(text) * part // CHUNKS for part in range(CHUNKS + 1)] for text, _ in texts]
        return [[Span(*ends) for ends in pairwise(cut)] for cut in cuts]


class World:
    """Both sides of so many documents, made up by number."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.repairs = 0
        self._splitter = ThreeChunks()
        self._prepare = chunk(lambda: self._splitter), clean_with(clean_texts)

    @property
    def damaged(self) -> int:
        """How many documents are not stored as they should be."""
        return len(range(0, self.count, DAMAGED))

    def reconcile(self) -> Report:
        """Compare both sides, and count the repairs that are published."""
        report = Report()
        expect = expect_with(lambda: self._splitter, clean_texts, _MODEL)
        numbers = (number * _STRIDE % self.count for number in range(self.count))
        flow = build(
            ScanSource(lambda: (_document(number) for number in range(self.count))),
            ScanSource(lambda: (point for number in numbers for point in self._points(number))),
            expect,
            SecondLook(self._documents_again, self._points_again, expect),
            self._submit,
            report,
            lambda finding: Message("q", b"", {}),
        )
        run_main(flow)  # type: ignore[no-untyped-call]  # bytewax has no type here
        return report

    def _submit(self, messages: Sequence[Message]) -> None:
        self.repairs += len(messages)

    def _documents_again(self, keys: Collection[Key]) -> Iterator[CapturedChange]:
        return (_document(int(key.entry_id, 16)) for key in keys)

    def _points_again(self, keys: Collection[Key]) -> Iterator[ScannedPoint]:
        return (point for key in keys for point in self._points(int(key.entry_id, 16)))

    def _points(self, number: int) -> Iterator[ScannedPoint]:
        cut, clean = self._prepare
        message = ChangeEvent.from_change(_document(number)).to_message("")
        prepared = cut(clean(decode(Delivery("", message.body, message.headers))))
        assert isinstance(prepared, Upsert)
        key, fresh = prepared.key, fresh_points(prepared, _MODEL)
        damage = number // DAMAGED % 3 if number % DAMAGED == 0 else None
        if damage != 0:
            stored = {**fresh.record, "version": 1, "indexed_at": 1.5}
            yield key, "record", record_id(*key), without_text(stored, ["cleaned_content"])
        for place, (id_, payload) in enumerate(fresh.chunks.items()):
            forged = {"platform": "forged"} if damage == 1 and place == 0 else {}
            yield key, "chunk", id_, without_text({**payload, **forged})
        if damage == 2:
            yield key, "chunk", record_id("posts", f"stray {number}"), without_text(payload)


def _document(number: int) -> CapturedChange:
    text = f"Post {number} says one thing. Then it says another one, and then it comes to its end."
    document = {"_id": f"{number:024x}", "platform": "x", "content": text}
    return CapturedChange("repair", "posts", 1, document["_id"], document)


class _Peak:
    """The most memory that this process has of its own, sampled for the length of a block."""

    def __enter__(self) -> "_Peak":
        self.before = self.mb = memory_mb(os.getpid())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            self.mb = max(self.mb, memory_mb(os.getpid()))


def main() -> None:
    """Print what was found as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconciliation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    documents = parser.parse_args().documents
    World(2000).reconcile()  # what is loaded once does not count
    world = World(documents)
    begun = time.monotonic()
    with _Peak() as peak:
        report = world.reconcile()
    found = {
        "bytes_per_document": round((peak.mb - peak.before) * 2**20 / documents, 1),
        "documents": documents,
        "points": (CHUNKS + 1) * documents,
        "damaged": world.damaged,
        "found": len(report.findings),
        "repairs": world.repairs,
        "peak_mb": round(peak.mb),
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
