"""`make eval`: how well searches find what they should, on text whose answers are known.

The documents go through the real chunker, the real model and the real store, which is made anew in
.data/eval; vectors are kept there, so a second run takes a minute. Writes benchmarks/eval.json, the
section Retrieval of docs/quality.md and docs/quality.png. With CORPUS, a folder in the form of
BEIR, it searches that and prints what came out, see `benchmarks.beir`.
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from qdrant_client import QdrantClient

from benchmarks.known_items import Item, Set, sets
from benchmarks.measures import mean, ndcg, ratio, recall, reciprocal
from benchmarks.peer_splitters import PEERS
from benchmarks.quality_page import ALL, TOGETHER, page
from benchmarks.quality_plot import plot_quality
from benchmarks.sections import write_section
from connectors.qdrant import QdrantSettings, QdrantStore, open_client
from connectors.qdrant.embedded import StoreFolder, stop
from flows.embedding.embedder import ChunkingEmbedder, Embedder, Vectors
from flows.operators.index import Indexer
from flows.text.chunk import Chunker, Splitter
from models import DOCUMENT_TYPES
from models.chunks import Piece, name_chunks
from models.prepared import Upsert
from retrieval.client import RetrievalClient
from retrieval.fusion import fused
from retrieval.hits import Hit
from retrieval.options import MODES, Mode
from retrieval.sync import prepared

ROOT: Final = Path(__file__).resolve().parent.parent
DATA: Final = ROOT / ".data" / "eval"
RESULTS: Final = ROOT / "benchmarks" / "eval.json"
PAGE: Final = ROOT / "docs" / "quality.md"

TUNED: Final = (1, 2, 5, 10, 60)
"""Values of k that are tried on the half for tuning."""

_BATCH: Final = 64
_DEEP: Final = 100

Ranks = list["int | None"]


class Remembering:
    """An embedder that keeps every vector in a file, by the text's hash."""

    def __init__(self, embedder: ChunkingEmbedder, folder: Path) -> None:
        self.name, self.dimension = embedder.name, embedder.dimension
        self._embedder = embedder
        self._file = folder / f"{embedder.name.replace('/', '-')}.npz"
        self._rows: dict[str, Vectors] = {}
        if self._file.exists():
            with np.load(self._file) as kept:
                self._rows = dict(zip(kept["hashes"].tolist(), kept["vectors"], strict=True))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Those that are not kept come from the model."""
        hashes = [sha256(text.encode()).hexdigest() for text in texts]
        pairs = zip(hashes, texts, strict=True)
        new = {hash_: text for hash_, text in pairs if hash_ not in self._rows}
        if new:
            vectors = self._embedder.encode(list(new.values()))
            self._rows.update(zip(new, vectors, strict=True))
        return np.stack([self._rows[hash_] for hash_ in hashes])

    def keep(self) -> None:
        """Write the file."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        hashes, vectors = list(self._rows), np.stack(list(self._rows.values()))
        np.savez(self._file, hashes=np.asarray(hashes), vectors=vectors)


@dataclass
class Half:
    """One half of the queries of a set, and where each mode ranks their answers."""

    queries: int
    ranks: dict[str, Ranks] = field(default_factory=dict)

    def values(self, measure: Any, mode: str) -> list[float]:
        """A measure of each query."""
        return [measure(rank) for rank in self.ranks[mode]]


def measure(
    some: Sequence[Set],
    embedder: ChunkingEmbedder,
    folder: Path,
    splitter: Splitter | None = None,
    with_context: bool = True,
) -> dict[str, Any]:
    """Store the documents of all sets, and search them.

    :param folder: for the store and the vectors
    :param splitter: instead of the flow's own, to be compared with it
    :param with_context: whether chunks are embedded with where they stand, as the flow does
    """
    remembering = Remembering(embedder, folder)
    path = folder / "store"
    shutil.rmtree(path, ignore_errors=True)
    try:
        with closing(open_client(QdrantSettings(path=path))) as client:
            splitter = splitter or Chunker(embedder.tokenizer, embedder.max_tokens)
            documents = (document for one in some for document in one.documents())
            upserts = prepared(documents, splitter)
            if not with_context:
                upserts = map(_without_context, upserts)
            chunks = filled(client, upserts, remembering)
            retrieval = RetrievalClient(client, remembering)
            halves = {one.name: _halves(retrieval, one) for one in some}
            mixed = {one.name: _searched(retrieval, one, one.queries(True), ()) for one in some}
    finally:
        stop(StoreFolder(path))
        shutil.rmtree(path, ignore_errors=True)
        remembering.keep()
    return {
        "chunks": chunks,
        "documents": {one.name: len(one.items) for one in some},
        "queries": {name: sum(half.queries for half in both) for name, both in halves.items()},
        "model": embedder.name,
        "sets": {name: _told(kept) for name, (kept, _) in halves.items()},
        ALL: _told(_joined(kept for kept, _ in halves.values())),
        TOGETHER: _told(_joined(mixed.values())),
        "values": {
            ALL: _values(_joined(kept for kept, _ in halves.values())),
            TOGETHER: _values(_joined(mixed.values())),
        },
        "k, tuning half": {
            str(k): mean(_joined(tuned for _, tuned in halves.values()).values(ndcg, f"k = {k}"))
            for k in TUNED
        },
    }


def _without_context(upsert: Upsert) -> Upsert:
    pieces = [Piece(chunk.path, chunk.content) for chunk in upsert.chunks]
    return replace(upsert, chunks=name_chunks(*upsert.key, pieces))


def filled(client: QdrantClient, upserts: Iterator[Upsert], embedder: Remembering) -> int:
    """Index documents in a new store, as the flow does; the number of chunks."""
    store = QdrantStore(client, DOCUMENT_TYPES)
    store.ensure_collections(embedder.dimension)
    index = Indexer(store, embedder)
    total = 0
    while batch := list(islice(upserts, _BATCH)):
        index([*batch])
        total += sum(len(upsert.chunks) for upsert in batch)
        print(f"\r{total} chunks", end="", flush=True)
    print()
    return total


def _halves(retrieval: RetrievalClient, one: Set) -> tuple[Half, Half]:
    """The half that is kept out, and the one for tuning, with the ranks of each k."""
    kept = _searched(retrieval, one, one.queries(True), [one.type])
    asked = one.queries(False)
    tuned = _searched(retrieval, one, asked, [one.type])
    texts = [item.query for item in asked]
    lists = [
        retrieval.search_many(texts, limit=_DEEP, mode=mode, types=[one.type])
        for mode in ("dense", "sparse")
    ]
    for k in TUNED:
        found = [fused(dense, sparse, k) for dense, sparse in zip(*lists, strict=True)]
        tuned.ranks[f"k = {k}"] = _ranks(asked, found)
    return kept, tuned


def _searched(
    retrieval: RetrievalClient, one: Set, asked: Sequence[Item], types: Sequence[str]
) -> Half:
    texts = [item.query for item in asked]
    half = Half(len(asked))
    for mode in MODES:
        found = retrieval.search_many(texts, limit=10, mode=mode, types=types, per_document=1)
        half.ranks[mode] = _ranks(asked, found)
    return half


def _ranks(asked: Iterable[Item], found: Iterable[Sequence[Hit]]) -> Ranks:
    """Of the document that answers each query, among the documents that were found."""
    ranks: Ranks = []
    for item, hits in zip(asked, found, strict=True):
        documents = list(dict.fromkeys(hit.entry_id for hit in hits))
        ranks.append(documents.index(item.key) if item.key in documents else None)
    return ranks


def _joined(halves: Iterable[Half]) -> Half:
    some = list(halves)
    joined = Half(sum(half.queries for half in some))
    for mode in some[0].ranks:
        joined.ranks[mode] = [rank for half in some for rank in half.ranks[mode]]
    return joined


def _values(half: Half) -> dict[str, list[float]]:
    return {mode: half.values(ndcg, mode) for mode in MODES}


def compared(some: Sequence[Set], embedder: ChunkingEmbedder, folder: Path) -> dict[str, Any]:
    """The same, what the context of chunks adds, and the defaults of other tools."""
    results = measure(some, embedder, folder)
    without = measure(some, embedder, folder, with_context=False)
    mine, theirs = results.pop("values"), without.pop("values")
    results["peers"] = {}
    for name, made in PEERS.items():
        peer = measure(some, embedder, folder, made(), with_context=False)
        values = peer.pop("values")
        results["peers"][name] = {
            "chunks": peer["chunks"],
            **{
                rows: {
                    "ndcg@10": peer[rows]["ndcg@10"]["dense"],
                    "hybrid ÷ it": ratio(mine[rows]["hybrid"], values[rows]["dense"]),
                }
                for rows in (ALL, TOGETHER)
            },
        }
    results["without context"] = {
        name: {
            "ndcg@10": without[name]["ndcg@10"],
            "with ÷ without": {mode: ratio(mine[name][mode], theirs[name][mode]) for mode in MODES},
            "hybrid with ÷ dense without": ratio(mine[name]["hybrid"], theirs[name]["dense"]),
        }
        for name in (ALL, TOGETHER)
    }
    return results


def _told(half: Half) -> dict[str, Any]:
    told: dict[str, Any] = {"queries": half.queries}
    for name, function in (("ndcg@10", ndcg), ("recall@10", recall), ("mrr", reciprocal)):
        told[name] = {mode: mean(half.values(function, mode)) for mode in MODES}
    by_mode = told["ndcg@10"]
    better: Mode = max("dense", "sparse", key=lambda mode: by_mode[mode].value)
    told["hybrid ÷ better"] = ratio(half.values(ndcg, "hybrid"), half.values(ndcg, better))
    told["hybrid ÷ dense"] = ratio(half.values(ndcg, "hybrid"), half.values(ndcg, "dense"))
    return told


def main() -> None:
    """Measure, and write what came out."""
    begun = time.monotonic()
    embedder = Embedder(os.environ.get("EMBEDDING_MODEL", ""))
    if corpus := os.environ.get("CORPUS"):
        from benchmarks.beir import measure_folder

        for mode, value in measure_folder(Path(corpus), embedder, DATA).items():
            print(f"nDCG@10 {mode:7} {value}")
        return
    results = compared(sets(), embedder, DATA)
    results["date"] = time.strftime("%Y-%m-%d")
    results["machine"] = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_section(PAGE, "Quality", "Retrieval", page(results))
    plot_quality(results, PAGE.with_suffix(".png"))
    print(f"{results[ALL]['ndcg@10']}\n{time.monotonic() - begun:.0f} s; see {PAGE}")


if __name__ == "__main__":
    main()
