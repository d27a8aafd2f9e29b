"""A small part of `make eval`, with the real model, and with a margin."""

from pathlib import Path

import pytest

from benchmarks import known_items, quality
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
    assert "## Retrieval" not in (text := quality.page({**results, "machine": "m", "date": "d"}))
    assert "| code |" in text
