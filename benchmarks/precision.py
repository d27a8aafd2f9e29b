"""The gain of automatic precision and its cost in quality, in a process of its own.

`python -m benchmarks.precision bfloat16` judges another precision. With `int8` it also searches
known items in both, see `benchmarks.quality`.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.place import Servers, on_path
from benchmarks.report import Measured

CHUNKS: Final = 600
QUERIES: Final = 800
ROUNDS: Final = 5
_SLICE: Final = 60
_TOP: Final = 10
_KNOWN_ITEMS: Final = 300
"""Of each set."""
_LEAST_NDCG: Final = 0.99
_LEAST_COSINE: Final = 0.999
_LEAST_SAME: Final = 0.98
"""Of the ten best chunks of a query, the share that stays, in the mean."""


def precision(_servers: Servers) -> dict[str, Measured]:
    """Both precisions in one process, in turn on the same slices of the same chunks."""
    found = json.loads(on_path(["benchmarks.precision"]))
    holds = found["mean_cosine"] >= _LEAST_COSINE and found["same_top_10"] >= _LEAST_SAME
    return {"precision_speedup": Measured(found.pop("speedup"), found, holds)}


def int8(_servers: Servers) -> dict[str, Measured]:
    """The same for int8, with what hybrid searches find of known items."""
    found = json.loads(on_path(["benchmarks.precision", "int8"]).splitlines()[-1])
    holds = found["hybrid_ndcg_vs_float32"] >= _LEAST_NDCG
    return {"int8_speedup": Measured(found.pop("speedup"), found, holds)}


def main() -> None:
    from benchmarks.documents import documents
    from flows.embedding.embedder import Embedder
    from flows.embedding.precision import BFLOAT16, FLOAT32, INT8

    _, texts = documents(CHUNKS + QUERIES, seed=3)
    chunks = texts[:CHUNKS]
    # A query is half of another chunk's text: it has no exact match.
    queries = [text[: len(text) // 2] for text in texts[CHUNKS : CHUNKS + QUERIES]]
    chosen = sys.argv[1] if sys.argv[1:] else "auto"
    automatic, full = Embedder("", "cpu", chosen), Embedder("", "cpu", FLOAT32)
    for embedder in (automatic, full):
        embedder.encode(chunks[:40])
    ratios = []
    for begin in range(0, ROUNDS * _SLICE, _SLICE):
        some = chunks[begin : begin + _SLICE]
        seconds = [_seconds(embedder, some) for embedder in (full, automatic)]
        ratios.append(seconds[0] / seconds[1])
    exact = full.encode(chunks), full.encode(queries)
    found = _agreement((automatic.encode(chunks), automatic.encode(queries)), exact)
    if chosen == INT8:
        found |= _searched(automatic, full)
    other = Embedder("", "cpu", BFLOAT16)
    instead = _agreement((other.encode(chunks), other.encode(queries)), exact)
    print(
        json.dumps(
            {
                "speedup": median(ratios),
                "precision": automatic.name.partition("/")[2] or FLOAT32,
                "rounds": [round(ratio, 2) for ratio in ratios],
                **found,
                "queries_with_equal_top_10_in_bfloat16": instead["queries_with_equal_top_10"],
            }
        )
    )


def _agreement(some: "tuple[Any, Any]", exact: "tuple[Any, Any]") -> dict[str, float]:
    """How near the vectors of chunks and queries, and what they find, are to float32."""
    cosine = np.sum(some[0] * exact[0], axis=1)
    ours, theirs = (
        np.argsort(-(queries @ chunks.T), axis=1)[:, :_TOP] for chunks, queries in (some, exact)
    )
    common = [len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "mean_cosine": round(float(cosine.mean()), 5),
        "least_cosine": round(float(cosine.min()), 5),
        "same_top_10": round(float(np.mean(common)) / _TOP, 4),
        "queries_with_equal_top_10": round(sum(n == _TOP for n in common) / len(common), 3),
        "same_first": round(float(np.mean(ours[:, 0] == theirs[:, 0])), 3),
    }


def _searched(some: Any, exact: Any) -> dict[str, float]:
    """nDCG@10 of hybrid searches in the stores of both, over the queries that are kept out."""
    from benchmarks import known_items, quality
    from benchmarks.quality_page import ALL

    known_items.DOCUMENTS = _KNOWN_ITEMS  # type: ignore[misc]  # as its test does
    sets = known_items.sets()
    hybrid = []
    for embedder in (some, exact):
        with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            measured = quality.measure(sets, embedder, Path(folder))
        hybrid.append(float(np.mean(measured["values"][ALL]["hybrid"])))
    return {
        "hybrid_ndcg": round(hybrid[0], 4),
        "hybrid_ndcg_vs_float32": round(hybrid[0] / hybrid[1], 4),
        "known_items": sum(len(one.items) for one in sets),
    }


def _seconds(embedder: Any, texts: list[str]) -> float:
    begun = time.perf_counter()
    embedder.encode(texts)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
