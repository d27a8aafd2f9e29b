"""The precision of the model, on the packaged model and on one that exceeds float16."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from flows.embedding import precision
from flows.embedding.embedder import Embedder, locate_model
from flows.lifecycle import one_line_errors
from models.errors import UnusableModelError

TEXTS = ["A short post about ships.", "def f(x):\n    return x + 1\n", "резюме, naïve, 変更"]


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model with a layer whose outputs, but not its weights, are beyond float16."""
    import torch

    folder = tmp_path_factory.mktemp("models") / "loud"
    model = SentenceTransformer(locate_model("")[0], device="cpu")
    with torch.no_grad():
        model[0].auto_model.encoder.layer[5].output.dense.weight.mul_(5e4)
    model.save(str(folder))
    return folder


def cosines(some: Embedder, others: Embedder) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.asarray(np.sum(some.encode(TEXTS) * others.encode(TEXTS), axis=1))


def test_automatic_precision_is_the_first_that_the_hardware_is_fast_at() -> None:
    automatic, exact = Embedder("", "cpu"), Embedder("", "cpu", "float32")
    expected = (*precision.candidates("cpu"), "float32")[0]
    assert automatic.name == precision.model_name("all-MiniLM-L6-v2", expected)
    assert (cosines(automatic, exact) > precision.LEAST_COSINE).all()


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [(("float16", "bfloat16"), "loud/bfloat16"), (("float16",), "loud"), ((), "loud")],
)
def test_a_model_beyond_the_range_of_float16_gets_another_precision(
    loud: Path, candidates: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "candidates", lambda _device: candidates)
    automatic, exact = Embedder(str(loud), "cpu"), Embedder(str(loud), "cpu", "float32")
    assert automatic.name == expected
    assert (cosines(automatic, exact) > precision.LEAST_COSINE).all()


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"amx_fp16": True, "amx_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, "float16 bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, "bfloat16"),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, ""),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bfloat16"),
        ({"cpu_name": "AMD EPYC"}, ""),
        ({}, ""),
    ],
)
def test_a_precision_is_automatic_only_where_it_is_faster(
    able: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert " ".join(precision.candidates("cpu")) == expected


def test_bfloat16_is_nearer_to_float32_than_a_model_that_is_cast_as_a_whole() -> None:
    import torch

    exact = Embedder("", "cpu", "float32").encode(TEXTS)
    ours = Embedder("", "cpu", "bfloat16").encode(TEXTS)
    whole = SentenceTransformer(locate_model("")[0], device="cpu").to(torch.bfloat16)
    cast = whole.encode(TEXTS, normalize_embeddings=True, convert_to_tensor=True).float().numpy()

    def deviation(vectors: Any) -> float:
        return float(np.abs(1 - np.sum(vectors * exact, axis=1)).mean())

    assert 0 < deviation(ours) < deviation(cast) / 1.5


def test_texts_beyond_the_range_of_float16_are_embedded_in_float32(loud: Path) -> None:
    plain = SentenceTransformer(str(loud), device="cpu").half().encode(TEXTS)
    assert not np.isfinite(plain).all(), "the model was meant to exceed float16"

    half, exact = Embedder(str(loud), "cpu", "float16"), Embedder(str(loud), "cpu", "float32")
    assert (cosines(half, exact) > precision.LEAST_COSINE).all()
    assert half.name == "loud/float16"
    assert (cosines(half, exact) > precision.LEAST_COSINE).all(), "the second batch"


def test_an_error_in_float32_leaves_the_model_as_it_was(
    loud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    half = Embedder(str(loud), "cpu", "float16")
    half.load()
    forward = half._model.forward

    def without_memory(features: Any) -> Any:
        if next(half._model.parameters()).dtype == torch.float32:
            raise RuntimeError("out of memory")
        return forward(features)

    monkeypatch.setattr(half._model, "forward", without_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        half.encode(TEXTS)
    assert next(half._model.parameters()).dtype == torch.float16


def test_a_model_whose_weights_exceed_the_precision_is_refused(loud: Path, tmp_path: Path) -> None:
    import torch

    model = SentenceTransformer(str(loud), device="cpu")
    with torch.no_grad():
        model[0].auto_model.encoder.layer[5].output.dense.weight.mul_(10)
    model.save(str(tmp_path))
    with pytest.raises(UnusableModelError, match="exceed the range of float16"):
        Embedder(str(tmp_path), "cpu", "float16").load()
    Embedder(str(tmp_path), "cpu", "bfloat16").load()


@pytest.mark.parametrize("device", ["cpu", "quantum"])
def test_a_model_that_cannot_be_loaded_is_one_line(device: str, tmp_path: Path) -> None:
    folder = "" if device == "quantum" else str(tmp_path)
    with pytest.raises(SystemExit) as ended, one_line_errors():
        Embedder(folder, device).load()
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith("configuration error: the model ")
    assert f"EMBEDDING_DEVICE={device}" in ended.value.code
    assert "\n" not in ended.value.code
