"""Whether a document costs the same in a corpus that is ten times as large."""

from statistics import median
from typing import Any, Final

from benchmarks.documents import documents
from benchmarks.features import run
from benchmarks.place import Servers
from benchmarks.report import Measured

DOCUMENTS: Final = 1000
TIMES: Final = 10
ROUNDS: Final = 3


def scaling(servers: Servers) -> dict[str, Measured]:
    """Seconds per document, those of the embedded store included."""
    every, _ = documents(600, seed=4)
    some = [row for row in every if row[0] == "posts"][:100]
    ratios, store_ratios, details = [], [], []
    for _ in range(ROUNDS):
        small = _per_document(servers, some, 1)
        large = _per_document(servers, some, TIMES)
        ratios.append(sum(large) / sum(small))
        store_ratios.append(large[1] / small[1])
        details.append([round(1000 * value, 2) for value in (*small, *large)])
    detail: dict[str, Any] = {
        "documents": [DOCUMENTS, TIMES * DOCUMENTS],
        "rounds": [round(ratio, 3) for ratio in ratios],
        "embedded_store_ratio": round(median(store_ratios), 2),
        "ms_per_document_flow_store_at_1_and_10": details[-1],
    }
    return {"scaling_10x": Measured(median(ratios), detail)}


def _per_document(servers: Servers, some: list[Any], times: int) -> tuple[float, float]:
    """Seconds per document outside of the store and in it, over the last tenth of the corpus."""
    copies = DOCUMENTS * times
    corpus = [
        (collection, {**document, "_id": f"copy-{number}"})
        for number in range(copies)
        for collection, document in [some[number % len(some)]]
    ]
    (lines,) = run(servers.place(), corpus, {"BENCH_EMBEDDER": "hashing"}, timeout=900)
    begin = max(0, len(lines) - 1 - max(3, len(lines) * 2 // 3 // times))
    first, last = lines[begin], lines[-1]
    count = last[2] - first[2]
    store = last[3] - first[3]
    return (last[0] - first[0] - store) / count, store / count


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured in scaling(servers_).items():
            print(name_, measured.value, measured.detail)
