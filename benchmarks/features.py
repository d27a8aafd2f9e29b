"""How fast the features flow embeds, against the model alone on the same chunks."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.documents import Document, documents, messages, publish, queues
from benchmarks.place import ROOT, Place, Servers, on_path, wait_for
from benchmarks.report import Measured
from flows.operators.embed import resolve_precision
from ops.stack import free_port

CHUNKS: Final = 1000
CLUSTER_CHUNKS: Final = 1000
ROUNDS: Final = 3

Line = tuple[float, int, int, float]
"""End of a batch, and up to then: chunks embedded, documents, seconds in the store."""


def features(servers: Servers) -> dict[str, Measured]:
    """Queue to searchable with everything, in turn with the model alone."""
    some, texts = documents(CHUNKS)
    file = _texts_file(servers.place(), texts)
    precision = resolve_precision("auto", "cpu")
    size = 0
    flow, bare, alone, shares = [], [], [], []
    for _ in range(ROUNDS):
        (lines,) = run(servers.place(), some, {})
        (first, last) = lines[0], lines[-1]
        chunks, seconds = last[1] - first[1], last[0] - first[0]
        store = last[3] - first[3]
        flow.append(chunks / seconds)
        bare.append(chunks / (seconds - store))
        shares.append(store / seconds)
        found = json.loads(
            on_path(["benchmarks.encode_alone", str(file), precision, str(size), "0"])
        )
        size = found["batch_size"]
        alone.append(found["rate"])
    detail = {
        "chunks": len(texts),
        "precision": precision,
        "flow_chunks_per_s": round(median(flow), 1),
        "encode_chunks_per_s": round(median(alone), 1),
        "encode_batch_size": size,
        "store_share_of_time": round(median(shares), 3),
        "rounds": [round(f / a, 3) for f, a in zip(flow, alone, strict=True)],
    }
    without = [b / a for b, a in zip(bare, alone, strict=True)]
    return {
        "features_vs_encode": Measured(
            median(f / a for f, a in zip(flow, alone, strict=True)), detail
        ),
        "features_vs_encode_without_store": Measured(
            median(without),
            {
                "flow_chunks_per_s": round(median(bare), 1),
                "encode_chunks_per_s": round(median(alone), 1),
                "rounds": [round(ratio, 3) for ratio in without],
            },
        ),
    }


def cluster(servers: Servers) -> dict[str, Measured]:
    """From one process to two, one torch thread each, the store left out on both sides since the
    embedded one belongs to a single process.
    """
    some, texts = documents(CLUSTER_CHUNKS, seed=2)
    file = _texts_file(servers.place(), texts)
    precision = resolve_precision("auto", "cpu")
    environment = {"OMP_NUM_THREADS": "1", "BENCH_STORE": "none"}
    ratios, flows, plain = [], [], []
    for _ in range(2):
        one = _overlap(run(servers.place(), some, environment, partitions=4))
        two = _overlap(run(servers.place(), some, environment, partitions=4, processes=2))
        single = _encode_in(1, file, precision)
        double = _encode_in(2, file, precision)
        flows.append(two / one)
        plain.append(double / single)
        ratios.append(flows[-1] / plain[-1])
    detail = {
        "flow_speed_up": [round(value, 2) for value in flows],
        "encode_speed_up": [round(value, 2) for value in plain],
        "chunks": len(texts),
    }
    return {"cluster_vs_encode": Measured(median(ratios), detail)}


def run(
    place: Place,
    some: Sequence[Document],
    environment: Mapping[str, str],
    partitions: int = 1,
    processes: int = 1,
    timeout: float = 300,
) -> list[list[Line]]:
    """Let the flow work off documents that wait in the queues; what each process wrote down."""
    publish(place, messages(some, queues(place, partitions)), partitions)
    log = place.folder / f"log-{place.name}"
    env = {"RABBITMQ_PARTITIONS": str(partitions), "BENCH_LOG": str(log), **environment}
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
    started = []
    try:
        for index in range(processes):
            cluster = ["-i", str(index), "-a", addresses] if processes > 1 else []
            manager = place.flow("benchmarks.timed_features", env, cluster)
            started.append(manager)
            manager.__enter__()

        def done() -> bool:
            return sum(lines[-1][2] for lines in _read(log) if lines) >= len(some)

        wait_for("all documents", done, timeout, every=0.5)
    finally:
        for manager in started:
            manager.__exit__(None, None, None)
    found = _read(log)
    place.delete_queues(partitions)
    return found


def _read(log: Path) -> list[list[Line]]:
    found = []
    for file in sorted(log.parent.glob(f"{log.name}-*")):
        rows = [json.loads(row) for row in file.read_text().splitlines() if row.endswith("]")]
        found.append([(row[0], row[1], row[2], row[3]) for row in rows])
    return [lines for lines in found if lines]


def _overlap(logs: list[list[Line]]) -> float:
    """Chunks per second while every process had work: the split of documents is not measured."""
    begin = max(lines[0][0] for lines in logs)
    end = min(lines[-1][0] for lines in logs)
    return sum(_at(lines, end) - _at(lines, begin) for lines in logs) / (end - begin)


def _at(lines: list[Line], moment: float) -> float:
    """Chunks embedded at a moment, even within a batch."""
    for (since, before, *_), (until, after, *_) in zip(lines, lines[1:], strict=False):
        if since <= moment <= until:
            return before + (after - before) * (moment - since) / (until - since)
    return float(lines[-1][1] if moment > lines[-1][0] else lines[0][1])


def _encode_in(processes: int, file: Path, precision: str) -> float:
    """Chunks per second of plain `encode` in so many processes at the same time."""
    texts = json.loads(file.read_text())
    running = []
    for index in range(processes):
        part = file.with_suffix(f".{index}-of-{processes}")
        part.write_text(json.dumps(texts[index::processes]))
        command = [sys.executable, "-m", "benchmarks.encode_alone", str(part), precision, "16", "1"]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
    found = [json.loads(process.communicate()[0]) for process in running]
    seconds = max(f["ended"] for f in found) - min(f["begun"] for f in found)
    return len(texts) / seconds


def _texts_file(place: Place, texts: list[str]) -> Path:
    file = place.folder / f"texts-{place.name}.json"
    file.write_text(json.dumps(texts))
    return file


def startup(servers: Servers) -> dict[str, Measured]:
    """From the command to the first message handled, model load included."""
    from benchmarks.freshness import find_record

    found = []
    for _ in range(3):
        place = servers.place()
        from bson import ObjectId

        id_ = ObjectId()
        publish(place, messages([("posts", {"_id": id_, "content": "Hello."})], [place.queue]))
        with place.flow("flows.features") as flow:
            wait_for("the first record", lambda: find_record(place, id_), every=0.02)  # noqa: B023
            found.append(time.monotonic() - flow.started_at)
    detail = {"rounds": [round(value, 1) for value in found]}
    return {"startup_s": Measured(median(found), detail)}


def _main(names: list[str]) -> None:
    with Servers() as servers:
        for name in names or ["features", "cluster", "startup"]:
            measured: Any = globals()[name](servers)
            for row, result in measured.items():
                print(row, result.value, dict(result.detail))


if __name__ == "__main__":
    _main(sys.argv[1:])
