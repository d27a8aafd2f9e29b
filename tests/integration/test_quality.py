"""A small part of `make eval`, with the real model, and with a margin."""

import json
from pathlib import Path

import pytest

from benchmarks import beir, known_items, quality
from benchmarks.quality_page import page
from flows.embedding.embedder import Embedder


def test_searches_find_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_items, "DOCUMENTS", 60)
    results = quality.measure(known_items.sets(), Embedder(""), tmp_path)
    assert set(results["sets"]) == {"docstrings", "pages", "code"}
    found = results["all sets"]["ndcg@10"]
    assert found["dense"].value > 0.7
    assert found["sparse"].value > 0.7
    assert found["hybrid"].value > 0.75
    assert results["all sets"]["hybrid ÷ better"].high > 1
    assert not (tmp_path / "store").exists()
    assert "## Retrieval" not in (text := page({**results, "machine": "m", "date": "d"}))
    assert "| code |" in text


def test_a_folder_of_beir(tmp_path: Path) -> None:
    texts = {"d1": "Whales sing to each other.", "d2": "Trains run on rails.", "d3": "Bread rises."}
    rows = [{"_id": id_, "title": f"About {id_}", "text": text} for id_, text in texts.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = [{"_id": "q1", "text": "songs of whales"}, {"_id": "q2", "text": "nobody judged"}]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / "qrels").mkdir()
    judged = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"
    (tmp_path / "qrels" / "test.tsv").write_text(judged)
    found = beir.measure_folder(tmp_path, Embedder(""), tmp_path / "out")
    assert {mode: value.value for mode, value in found.items()} == {
        "hybrid": 1.0, "dense": 1.0, "sparse": 1.0,
    }  # fmt: skip


def test_graded_answers() -> None:
    grades = {"a": 2.0, "b": 1.0}
    assert beir.ndcg(["a", "b", "x"], grades) == 1
    assert 0.8 < beir.ndcg(["b", "a"], grades) < 1
    assert beir.ndcg(["x"] * 10 + ["a"], grades) == 0
