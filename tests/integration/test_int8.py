"""EMBEDDING_PRECISION=int8, with the packaged model.

`ops/install.sh optional`, which .ci/run calls, brings the libraries.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from flows.embedding import int8
from flows.embedding.embedder import Embedder
from flows.embedding.precision import names_of_the_model
from flows.lifecycle import one_line_errors
from models.errors import UnusableModelError

TEXTS = [
    "A short post about ships.",
    "def f(x):\n    return x + 1\n",
    "резюме, naïve, 変更",
    "Whales sing to each other over hundreds of kilometres. " * 40,
]


@pytest.fixture
def able() -> None:
    pytest.importorskip("onnxruntime", reason="ops/install.sh optional brings it")
    try:
        int8.check_processor()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture
def embedder(able: None, cache: Path) -> Embedder:
    return Embedder("", "cpu", "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The conversion takes some seconds: it is made once for all tests."""
    monkeypatch.setenv("HOME", str(folder))
    return folder / ".cache" / "twinstream"


def test_vectors_are_near_those_of_float32_and_of_length_1(embedder: Embedder) -> None:
    found, exact = embedder.encode(TEXTS), Embedder("", "cpu", "float32").encode(TEXTS)
    assert found.shape == exact.shape
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (np.sum(found * exact, axis=1) > 0.97).all()
    assert embedder.encode([]).shape == (0, 384)


def test_a_vector_does_not_depend_on_the_texts_beside_it(embedder: Embedder) -> None:
    """A fresh sync, which has other neighbours, must come to the same vectors."""
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    assert np.array_equal(embedder.encode(TEXTS), alone)
    assert np.array_equal(embedder.encode(TEXTS[::-1])[::-1], alone)


def test_it_has_a_name_of_its_own_that_searches_take_for_the_same_model(
    embedder: Embedder,
) -> None:
    assert embedder.name == "all-MiniLM-L6-v2/int8"
    assert embedder.name in names_of_the_model("all-MiniLM-L6-v2/bfloat16")


def test_the_model_is_converted_once(embedder: Embedder, cache: Path) -> None:
    embedder.load()
    [kept] = cache.iterdir()
    made = kept.stat().st_mtime_ns
    Embedder("", "cpu", "int8").load()
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [made]


def test_a_damaged_conversion_is_made_again(able: None, folder: Path, cache: Path) -> None:
    Embedder("", "cpu", "int8").load()
    [kept] = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert Embedder("", "cpu", "int8").encode(TEXTS).shape == (4, 384)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    embedder: Embedder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.load()
    [kept] = cache.iterdir()
    converted: list[bytes] = []

    def convert(_: object) -> bytes:
        converted.append(kept.read_bytes())
        return converted[-1]

    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(int8, "_convert", convert)
    again = Embedder("", "cpu", "int8").encode(TEXTS)
    assert len(converted) == 1
    assert np.array_equal(again, embedder.encode(TEXTS))


def test_another_model_is_another_file(able: None) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from flows.embedding.embedder import locate_model

    model = SentenceTransformer(locate_model("")[0], device="cpu")
    before = int8._fingerprint(model)
    with torch.no_grad():
        model[0].auto_model.encoder.layer[5].output.dense.bias.add_(1)
    assert int8._fingerprint(model) != before


def test_a_processor_without_vnni_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(SystemExit) as ended, one_line_errors():
        Embedder("", "cpu", "int8").load()
    assert str(ended.value.code).endswith(
        "EMBEDDING_PRECISION=int8: it needs a processor with VNNI"
    )


def test_a_missing_package_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "check_processor", lambda: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UnusableModelError, match=r"it needs ONNX Runtime: pip install '\.\[int8\]'$"
    ):
        Embedder("", "cpu", "int8").load()
