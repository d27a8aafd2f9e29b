"""The embedded store beside `qdrant-client`'s local mode and beside its own engine in process."""

import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient
from qdrant_client import models as q

from benchmarks.freshness import quantile
from benchmarks.place import Servers
from benchmarks.report import Measured
from connectors.qdrant import QdrantSettings, QdrantStore, open_client, vectors_of
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.qdrant.embedded.description import read_description
from connectors.qdrant.embedded.engine import Point, Shard, SparseRow
from connectors.qdrant.embedded.wear import INDEXED_FROM, read_wear
from connectors.qdrant.names import SPARSE_NAME, Collections
from connectors.qdrant.schema import indexes
from connectors.qdrant.sparse import SPARSE_PARAMS
from flows.embedding.embedder import Embedder
from models import DOCUMENT_TYPES, Version
from models.fresh import embedded_text
from models.plans import NewChunk
from models.sparse import SparseWeights, chunk_weights
from models.stored import Key
from retrieval.client import RetrievalClient
from retrieval.options import Mode
from tests.chaos.harness import kill_store

POINTS: Final = 50_000
REOPENED: Final = 100_000
SIZES: Final = (10_000, 50_000, 200_000)
DIMENSION: Final = 384
MODEL: Final = "benchmark"
_MEASURED: Final = 2000
"""Points of which the upserts are timed, when all others are there."""
_LOCAL_SEARCHES: Final = 15
_SEARCHES: Final = 200
_MANUAL: Final = "\n".join(topics.values())
_TEXTS: Final = [_MANUAL[at : at + 1000] for at in range(0, len(_MANUAL) - 1000, 1000)]
"""Python's own manual in chunks; over and over, since only their terms are asked here."""

_TYPES: Final = ("posts",)
"""All points are in one collection; the other types are searched, and empty."""

Rows = dict[str, Measured]


class Vectors:
    """An embedder whose encoding costs nothing: each query is the next random vector."""

    name = MODEL
    dimension = DIMENSION

    def __init__(self) -> None:
        self._next = 0

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self._next += 1
        return vectors(10**6 + self._next, len(texts))


def store(servers: Servers) -> Rows:
    """Upserts and searches at 50,000 points: ours, local mode, and the engine in this process."""
    folder = servers.place().folder
    ours, local = folder / "store-ours", folder / "store-local"
    with closing(open_client(QdrantSettings(path=ours))) as client:
        upserts = _filled(client, POINTS, ours=ours)
        settle(ours)
        searches = _searches(client, _SEARCHES, "dense")
        engine_upserts, engine_searches = _engine(folder / "store-engine")
    stop(StoreFolder(ours))
    with closing(QdrantClient(path=str(local))) as client:
        local_upserts = _filled(client, POINTS)
        local_searches = _searches(client, _LOCAL_SEARCHES, "dense")
    for path in (ours, local):
        shutil.rmtree(path)
    ms, local_ms, engine_ms = (
        1000 * median(some) for some in (searches, local_searches, engine_searches)
    )
    detail = {
        "points": POINTS,
        "per_s": round(upserts),
        "local_mode_per_s": round(local_upserts),
        "engine_per_s": round(engine_upserts),
        "engine_vs_local_mode": round(engine_upserts / local_upserts, 1),
    }
    times = {
        "ms": round(ms, 2),
        "local_mode_ms": round(local_ms, 1),
        "engine_ms": round(engine_ms, 2),
    }
    return {
        "store_upserts_vs_local_mode": Measured(upserts / local_upserts, detail),
        "search_vs_local_mode": Measured(local_ms / ms, times),
        "search_vs_engine": Measured(ms / engine_ms, times),
    }


def searches(servers: Servers) -> Rows:
    """A search of all types through `RetrievalClient`, encoding apart, at several sizes."""
    path = servers.place().folder / "store-searches"
    detail: dict[str, Any] = {}
    embedder = Embedder("", "auto", "auto")
    queries = [f"how does a chunk number {number} come to be stored?" for number in range(50)]
    encoding = [_timed(lambda text=text: embedder.encode([text])) for text in queries]
    detail["encoding_p50_p99"] = _p50_p99(encoding[5:])
    last = 0.0
    with closing(open_client(QdrantSettings(path=path))) as client:
        there = 0
        for size in SIZES:
            _filled(client, size, there)
            settle(path)
            there = size
            took = _searches(client, _SEARCHES)
            detail[f"{size}_chunks_p50_p99"] = _p50_p99(took)
            last = 1000 * median(took)
    stop(StoreFolder(path))
    shutil.rmtree(path)
    return {"search_ms": Measured(last, detail)}


def reopening(servers: Servers) -> Rows:
    """From the kill -9 of a store of 100,000 points that was being written to, until a client of it
    has the answer to a search.
    """
    path = servers.place().folder / "store-reopened"
    with closing(open_client(QdrantSettings(path=path))) as client:
        _filled(client, REOPENED)
        query = vectors(1, 1)[0].tolist()
        took = []
        for round_ in range(3):
            _write(QdrantStore(client, DOCUMENT_TYPES), REOPENED - 2000, REOPENED)
            kill_store(path)
            begun = time.monotonic()
            while True:
                try:
                    client.query_points(vectors_of("posts"), query=query, using="dense", limit=5)
                    break
                except Exception:  # noqa: BLE001 (whatever a client is told while it is away)
                    assert time.monotonic() - begun < 60
                    time.sleep(0.02)
            took.append(time.monotonic() - begun)
            assert _count(client) == REOPENED, f"points were lost in round {round_}"
    stop(StoreFolder(path))
    shutil.rmtree(path)
    return {"reopen_s": Measured(median(took), {"rounds": [round(one, 2) for one in took]})}


def vectors(seed: int, count: int) -> npt.NDArray[np.float32]:
    """Random directions."""
    made = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def _chunk(number: int) -> NewChunk:
    type_ = _TYPES[number % len(_TYPES)]
    key = Key(type_, str(number // 9))
    payload = {
        "entry_id": key.entry_id, "type": type_, "author_id": f"author {number % 20}",
        "platform": "blog", "link": f"https://example.org/{number}", "path": "Content",
        "content": f"{number} {_TEXTS[number % len(_TEXTS)]}", "model": MODEL,
        "chunk_hash": f"{number:032x}",
    }  # fmt: skip
    return NewChunk(key, Version(1, 0), str(UUID(int=number + 1)), payload)


def _rows(
    numbers: range,
) -> tuple[list[NewChunk], npt.NDArray[np.float32], list[SparseWeights]]:
    """Chunks with their vectors."""
    chunks = [_chunk(number) for number in numbers]
    weights = [chunk_weights(embedded_text(chunk.payload)) for chunk in chunks]
    return chunks, vectors(numbers.start, len(numbers)), weights


def _write(store_: QdrantStore, start: int, end: int) -> None:
    for begin in range(start, end, 256):
        some = range(begin, min(end, begin + 256))
        store_.upsert_chunks(*_rows(some))


def settle(path: Path) -> None:
    """Wait until the embedded store has indexed what it wants to."""
    collections = list(StoreFolder(path).collections.iterdir())
    deadline = time.monotonic() + 900
    while True:
        time.sleep(2.5)  # more than passes until the server has looked, and said so
        if not any(_is_indexing(collection) for collection in collections):
            return
        assert time.monotonic() < deadline, "the store does not come to rest"


def _is_indexing(collection: Path) -> bool:
    _, generation = read_description(collection)
    wear = read_wear(collection, generation)
    many = wear is not None and wear.unindexed >= INDEXED_FROM
    return many or sum(one.name.isdecimal() for one in collection.iterdir()) > 1


def _filled(client: QdrantClient, points: int, there: int = 0, ours: Path | None = None) -> float:
    """Fill up to so many points; the upserts per second of the last ones.

    :param ours: the folder, if it is an embedded store
    """
    store_ = QdrantStore(client, DOCUMENT_TYPES)
    store_.ensure_collections(DIMENSION)
    _write(store_, there, points - _MEASURED)
    if ours:
        settle(ours)
    made = [_rows(range(begin, begin + 250)) for begin in range(points - _MEASURED, points, 250)]
    begun = time.monotonic()
    for rows in made:
        store_.upsert_chunks(*rows)
    return _MEASURED / (time.monotonic() - begun)


def _searches(client: QdrantClient, count: int, mode: Mode = "hybrid") -> list[float]:
    """Seconds of searches of all types with the filter that each search has."""
    retrieval = RetrievalClient(client, Vectors())
    queries = [" ".join(_TEXTS[7 * n % len(_TEXTS)].split()[3:11]) for n in range(count + 1)]
    retrieval.search(queries.pop(), limit=10, mode=mode)
    return [
        _timed(lambda text=text: retrieval.search(text, limit=10, mode=mode)) for text in queries
    ]


def _engine(folder: Path) -> tuple[float, list[float]]:
    """The engine in this process: upserts per second of the last points, sparse vectors and all
    indexes included, and seconds of the same query, of as many hits as a search asks for.
    """
    shards = []
    for name in _TYPES:
        path = folder / name
        path.mkdir(parents=True)
        shard = Shard.create(
            path,
            {"dense": q.VectorParams(size=DIMENSION, distance=q.Distance.COSINE)},
            SPARSE_PARAMS,
        )
        for field, type_ in indexes(Collections(), _TYPES)[vectors_of(name)].items():
            shard.index(field, type_.value)
        shards.append(shard)
    [shard] = shards
    seconds = 0.0
    for begin in range(0, POINTS, 250):
        points = [
            Point(
                chunk.id,
                {"dense": array("f", row), SPARSE_NAME: SparseRow(*map(list, weights))},
                chunk.payload,
            )
            for chunk, row, weights in zip(*_rows(range(begin, begin + 250)), strict=True)
        ]
        took = _timed(lambda: shard.upsert(points))  # noqa: B023
        seconds += took if begin >= POINTS - _MEASURED else 0.0
    only = q.Filter(must=[q.FieldCondition(key="model", match=q.MatchAny(any=[MODEL]))])

    def search(number: int) -> None:
        query = q.NearestQuery(nearest=vectors(number, 1)[0].tolist())
        request = q.QueryRequest(
            query=query, using="dense", filter=only, limit=22, with_payload=True
        )
        for shard in shards:
            shard.query([request])

    for shard in shards:
        shard.optimize()  # it has the index that the store has
    search(0)
    took = [_timed(lambda n=number: search(n)) for number in range(_SEARCHES)]
    for shard in shards:
        shard.close()
    shutil.rmtree(folder)
    return _MEASURED / seconds, took


def _count(client: QdrantClient) -> int:
    return sum(client.count(vectors_of(type_)).count for type_ in _TYPES)


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _p50_p99(seconds: Sequence[float]) -> list[float]:
    return [round(1000 * quantile(list(seconds), share), 1) for share in (0.5, 0.99)]


def _all(servers: Servers) -> Iterator[tuple[str, Measured]]:
    for measure in (store, searches, reopening):
        yield from measure(servers).items()


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured_ in _all(servers_):
            print(name_, measured_.value, measured_.detail)
