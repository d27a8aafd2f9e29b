"""What automatic precision gains, and what it costs in quality, in a process of its own."""

import json
import sys
import time
from statistics import median
from typing import Any, Final

from benchmarks.place import Servers, on_path
from benchmarks.report import Measured

CHUNKS: Final = 600
QUERIES: Final = 800
ROUNDS: Final = 5
_SLICE: Final = 60
_TOP: Final = 10
_LEAST_COSINE: Final = 0.999
_LEAST_SAME: Final = 0.98


def precision(_servers: Servers) -> dict[str, Measured]:
    """Both precisions in one process, in turn on the same slices of the same chunks."""
    found = json.loads(on_path(["benchmarks.precision"]))
    holds = (
        found["mean_cosine"] >= _LEAST_COSINE and found["queries_with_equal_top_10"] >= _LEAST_SAME
    )
    return {"precision_speedup": Measured(found.pop("speedup"), found, holds)}


def main() -> None:
    import numpy as np

    from benchmarks.documents import documents
    from flows.operators.embed import Embedder

    _, texts = documents(CHUNKS + QUERIES, seed=3)
    chunks = texts[:CHUNKS]
    # A query is half of another chunk's text: it has no exact match.
    queries = [text[: len(text) // 2] for text in texts[CHUNKS : CHUNKS + QUERIES]]
    automatic, full = Embedder("", "cpu"), Embedder("", "cpu", "float32")
    for embedder in (automatic, full):
        embedder.encode(chunks[:40])
    ratios = []
    for begin in range(0, ROUNDS * _SLICE, _SLICE):
        some = chunks[begin : begin + _SLICE]
        seconds = [_seconds(embedder, some) for embedder in (full, automatic)]
        ratios.append(seconds[0] / seconds[1])
    ours, theirs = automatic.encode(chunks), full.encode(chunks)
    cosine = np.sum(ours * theirs, axis=1)
    top_ours = np.argsort(-(automatic.encode(queries) @ ours.T), axis=1)[:, :_TOP]
    top_full = np.argsort(-(full.encode(queries) @ theirs.T), axis=1)[:, :_TOP]
    common = _common(top_ours, top_full)
    # What no arrangement of bfloat16 can mend: float32 arithmetic on weights rounded to it.
    _round_weights(full)
    rounded = np.argsort(-(full.encode(queries) @ full.encode(chunks).T), axis=1)[:, :_TOP]
    best = sum(n == _TOP for n in _common(rounded, top_full)) / QUERIES
    print(
        json.dumps(
            {
                "speedup": median(ratios),
                "precision": automatic.name.partition("/")[2] or "float32",
                "rounds": [round(ratio, 2) for ratio in ratios],
                "mean_cosine": round(float(cosine.mean()), 5),
                "least_cosine": round(float(cosine.min()), 5),
                "same_top_10": round(float(np.mean(common)) / _TOP, 4),
                "queries_with_equal_top_10": round(sum(n == _TOP for n in common) / QUERIES, 3),
                "the_same_with_only_the_weights_rounded": round(best, 3),
                "same_first": round(float(np.mean(top_ours[:, 0] == top_full[:, 0])), 3),
            }
        )
    )


def _common(some: Any, others: Any) -> list[int]:
    return [len(set(a) & set(b)) for a, b in zip(some, others, strict=True)]


def _round_weights(embedder: Any) -> None:
    import torch

    with torch.no_grad():
        for weights in embedder._model.parameters():
            if weights.ndim == 2:
                weights.copy_(weights.to(torch.bfloat16).float())


def _seconds(embedder: Any, texts: list[str]) -> float:
    begun = time.perf_counter()
    embedder.encode(texts)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
