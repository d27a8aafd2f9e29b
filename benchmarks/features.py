"""How fast the features flow embeds, against the model alone on the same chunks."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from bson import ObjectId

from benchmarks.documents import Document, chunker, documents, messages, publish, queues, texts_of
from benchmarks.freshness import find_record
from benchmarks.place import ROOT, MeasuredFlow, Place, Servers, wait_for
from benchmarks.report import Measured
from flows.embedding.precision import FLOAT32, candidates
from ops.local_server import free_port

CHUNKS: Final = 250
SLICES: Final = 8
CLUSTER_CHUNKS: Final = 700
CLUSTER_ROUNDS: Final = 3

Line = tuple[float, int, int, float, float]
"""End of a batch, and up to then: chunks embedded, documents, seconds in the store, and seconds
of cleaning and cutting."""


def features(servers: Servers) -> dict[str, Measured]:
    """Slices of the same documents in turn: the flow, from the queue to the store, then the model
    alone. The flow's process and the model's both stay up, each idle while the other works.
    """
    every, _ = documents(SLICES * CHUNKS)
    place = servers.place()
    precision = _automatic()
    log = place.folder / f"log-{place.name}"
    pairs, shares, texts_shares, cutter = [], [], [], chunker()
    with Alone(precision, 0) as alone, place.flow("benchmarks.timed_features", _log(log)) as flow:
        warm = every[-1]
        _slice(place, flow, log, [(warm[0], {**warm[1], "_id": "warm"})])
        size = alone.best_size(texts_of(every[:60], cutter))
        for some in _slices(every, cutter):
            texts = texts_of(some, cutter)
            seconds, store, cutting = _slice(place, flow, log, some)
            begun, ended = alone.encode(texts, size)
            count = len(texts)
            pairs.append((count / seconds, count / (seconds - store), count / (ended - begun)))
            shares.append(store / seconds)
            texts_shares.append(cutting / seconds)
    place.delete_queues()
    with_store = [whole / plain for whole, _, plain in pairs]
    without = [bare / plain for _, bare, plain in pairs]
    plain_rate = round(median(plain for *_, plain in pairs), 1)
    detail = {
        "flow_chunks_per_s": round(median(whole for whole, *_ in pairs), 1),
        "encode_chunks_per_s": plain_rate,
        "precision": precision,
        "encode_batch_size": size,
        "store_share_of_time": round(median(shares), 3),
        "rounds": [round(ratio, 3) for ratio in with_store],
    }
    bare_detail = {
        "flow_chunks_per_s": round(median(bare for _, bare, _ in pairs), 1),
        "encode_chunks_per_s": plain_rate,
        "rounds": [round(ratio, 3) for ratio in without],
    }
    return {
        "features_vs_encode": Measured(median(with_store), detail),
        "features_vs_encode_without_store": Measured(median(without), bare_detail),
        "clean_chunk_share": Measured(
            100 * median(texts_shares),
            {"rounds": [round(100 * share, 1) for share in texts_shares], "precision": precision},
        ),
    }


def _automatic() -> str:
    """The precision that the flow takes by itself."""
    return (*candidates("cpu"), FLOAT32)[0]


def _slices(every: Sequence[Document], cutter: Any) -> Iterator[list[Document]]:
    """Documents of about `CHUNKS` chunks at a time."""
    some: list[Document] = []
    for document in every:
        some.append(document)
        if len(texts_of(some, cutter)) >= CHUNKS:
            yield some
            some = []


def _slice(
    place: Place, flow: MeasuredFlow, log: Path, some: Sequence[Document]
) -> tuple[float, float, float]:
    """Seconds from the first message in the queue to the last chunk in the store, and of these
    the seconds of the store, and those of cleaning and cutting.
    """
    before = _read(log)
    done, store, cutting = before[0][-1][2:] if before else (0, 0.0, 0.0)
    sent = messages(some, queues(place))

    def handled() -> bool:
        flow.check()
        found = _read(log)
        return bool(found) and found[0][-1][2] >= done + len(sent)

    begun = time.monotonic()
    publish(place, sent)
    wait_for("all documents of a slice", handled, 300, every=0.1)
    last = _read(log)[0][-1]
    return last[0] - begun, last[3] - store, last[4] - cutting


class Alone:
    """The model alone, in a process of its own.

    :param threads: of torch; 0 for its own choice
    """

    def __init__(self, precision: str, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.encode_alone", precision, str(threads)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, size: int, texts: Sequence[str]) -> None:
        """Let it encode; the answer is to be read."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([size, texts]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What it made of the oldest question."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def encode(self, texts: Sequence[str], size: int) -> tuple[float, float]:
        """The moments at which it began and ended."""
        self.ask(size, texts)
        begun, ended = self.answer()
        return begun, ended

    def best_size(self, texts: Sequence[str]) -> int:
        """The batch size that it is fastest with."""
        self.ask(0, texts)
        return int(self.answer())

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()


def cluster(servers: Servers) -> dict[str, Measured]:
    """From one process to two, one torch thread each, the store left out on both sides since the
    embedded one belongs to a single process.
    """
    some, texts = documents(CLUSTER_CHUNKS, seed=2)
    precision = _automatic()
    environment = {"OMP_NUM_THREADS": "1", "BENCH_STORE": "none"}
    ratios, flows, plain = [], [], []
    for _ in range(CLUSTER_ROUNDS):
        one = _overlap(run(servers.place(), some, environment, partitions=4))
        two = _overlap(run(servers.place(), some, environment, partitions=4, processes=2))
        with Alone(precision, 1) as first, Alone(precision, 1) as second:
            _encode_in([first, second], texts[:64])
            # the very texts that this process has beside the other: others may be longer
            single = _encode_in([first], texts[::2])
            double = _encode_in([first, second], texts)
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
        found.append([(row[0], row[1], row[2], row[3], row[4]) for row in rows])
    return [lines for lines in found if lines]


def _overlap(logs: list[list[Line]]) -> float:
    """Chunks per second while every process had work: the split of documents is not measured."""
    begin = max(lines[0][0] for lines in logs)
    end = min(lines[-1][0] for lines in logs)
    return sum(_at(lines, end) - _at(lines, begin) for lines in logs) / (end - begin)


def _at(lines: list[Line], moment: float) -> float:
    """Chunks embedded at a moment, even within a batch."""
    for (since, before, *_), (until, after, *_) in pairwise(lines):
        if since <= moment <= until:
            return before + (after - before) * (moment - since) / (until - since)
    return float(lines[-1][1] if moment > lines[-1][0] else lines[0][1])


def _encode_in(models: Sequence[Alone], texts: Sequence[str]) -> float:
    """Chunks per second of plain `encode` in these processes at the same time."""
    for index, model in enumerate(models):
        model.ask(16, texts[index :: len(models)])
    moments = [model.answer() for model in models]
    return len(texts) / (max(end for _, end in moments) - min(begin for begin, _ in moments))


def _log(log: Path) -> dict[str, str]:
    return {"BENCH_LOG": str(log)}


def startup(servers: Servers) -> dict[str, Measured]:
    """From the command to the first message handled, model load included."""
    found = []
    for _ in range(3):
        place = servers.place()
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
