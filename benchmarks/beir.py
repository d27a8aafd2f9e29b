"""`make eval CORPUS=folder`: a corpus in the form of BEIR, to compare with published numbers.

corpus.jsonl     {"_id": …, "title": …, "text": …}
queries.jsonl    {"_id": …, "text": …}
qrels/test.tsv   query-id, corpus-id, score; with a heading
"""

import csv
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.measures import CUT, Interval, mean
from benchmarks.quality import Remembering, filled
from connectors.qdrant import QdrantSettings, open_client
from connectors.qdrant.embedded import StoreFolder, stop
from flows.embedding.embedder import ChunkingEmbedder
from flows.text.chunk import Chunker
from retrieval.client import RetrievalClient
from retrieval.options import MODES
from retrieval.sync import prepared

_TYPE: Final = "articles"

Grades = Mapping[str, float]
"""How well each document answers a query; others do not."""


def ndcg(found: list[str], grades: Grades) -> float:
    """nDCG@10 with graded answers."""
    gains = [grades.get(id_, 0.0) for id_ in found[:CUT]]
    ideal = sorted(grades.values(), reverse=True)[:CUT]
    return _discounted(gains) / (_discounted(ideal) or 1.0)


def measure_folder(corpus: Path, embedder: ChunkingEmbedder, folder: Path) -> dict[str, Interval]:
    """nDCG@10 by mode.

    :param corpus: of the form of BEIR
    :param folder: for the store and the vectors
    """
    remembering = Remembering(embedder, folder)
    answers = _grades(corpus)
    queries = {row["_id"]: row["text"] for row in _rows(corpus / "queries.jsonl")}
    asked = [id_ for id_ in queries if id_ in answers]
    splitter = Chunker(embedder.tokenizer, embedder.max_tokens)
    path = folder / "store-beir"
    shutil.rmtree(path, ignore_errors=True)
    try:
        with closing(open_client(QdrantSettings(path=path))) as client:
            filled(client, prepared(_documents(corpus), splitter), remembering)
            retrieval = RetrievalClient(client, remembering)
            found = {
                mode: retrieval.search_many(
                    [queries[id_] for id_ in asked],
                    limit=CUT, mode=mode, types=[_TYPE], per_document=1,
                )
                for mode in MODES
            }  # fmt: skip
    finally:
        stop(StoreFolder(path))
        shutil.rmtree(path, ignore_errors=True)
        remembering.keep()
    return {
        mode: mean(
            [
                ndcg([hit.entry_id for hit in some], answers[id_])
                for id_, some in zip(asked, lists, strict=True)
            ]
        )
        for mode, lists in found.items()
    }


def _documents(corpus: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in _rows(corpus / "corpus.jsonl"):
        content = {"Title": row.get("title", ""), "Content": row["text"]}
        yield _TYPE, {"_id": row["_id"], "platform": "beir", "content": content}


def _grades(corpus: Path) -> dict[str, dict[str, float]]:
    grades: dict[str, dict[str, float]] = {}
    with (corpus / "qrels" / "test.tsv").open(newline="") as file:
        for query, document, score in list(csv.reader(file, delimiter="\t"))[1:]:
            if float(score) > 0:
                grades.setdefault(query, {})[document] = float(score)
    return grades


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _discounted(gains: list[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
