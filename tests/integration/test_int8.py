"""EMBEDDING_PRECISION=int8, with the packaged model.

`ops/install.sh optional`, which .ci/run calls, brings the libraries.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flows.embedding import int8
from flows.embedding.embedder import Embedder, locate_model
from flows.embedding.int8 import Int8Model
from flows.embedding.precision import names_of_the_model
from flows.lifecycle import one_line_errors
from models.errors import UnusableModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

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
    exact = Embedder("", "cpu", "int8").encode(TEXTS)
    zeros = bytes(2**16)
    for damaged in (
        whole[: len(whole) // 2],
        zeros.join((whole[: -(2**20)], whole[2**16 - 2**20 :])),
    ):
        kept.write_bytes(damaged)
        assert np.array_equal(Embedder("", "cpu", "int8").encode(TEXTS), exact)
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    embedder: Embedder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.load()
    [kept] = cache.iterdir()
    converted: list[bytes] = []

    def convert(_: object) -> bytes:
        converted.append(kept.read_bytes()[32:])  # behind its digest
        return converted[-1]

    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(int8, "_convert", convert)
    again = Embedder("", "cpu", "int8").encode(TEXTS)
    assert len(converted) == 1
    assert np.array_equal(again, embedder.encode(TEXTS))


@pytest.fixture
def model(able: None, cache: Path) -> "SentenceTransformer":
    """The packaged model, before it is converted."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(locate_model("")[0], device="cpu")


def test_another_model_is_another_file(model: "SentenceTransformer") -> None:
    import torch

    before = int8._fingerprint(model)
    with torch.no_grad():
        model[0].auto_model.encoder.layer[5].output.dense.bias.add_(1)
    assert int8._fingerprint(model) != before


def test_another_configuration_of_the_same_weights_is_another_file(
    model: "SentenceTransformer",
) -> None:
    before = int8._fingerprint(model)
    model[0].auto_model.config.num_attention_heads //= 2
    assert int8._fingerprint(model) != before


def test_a_model_whose_vectors_would_be_others_is_refused(
    embedder: Embedder, model: "SentenceTransformer"
) -> None:
    """A later module that uses more than the output of the first one."""
    import torch

    class Shifted(torch.nn.Module):
        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            all_layers = features.get("all_layer_embeddings")
            shift = 0.0 if all_layers is None else 1.0
            return {**features, "sentence_embedding": features["sentence_embedding"] + shift}

    embedder.load()  # the conversion is there
    model[0].auto_model.config.output_hidden_states = True
    model.append(Shifted())
    with pytest.raises(ValueError, match=r"its vectors are not those of float32 \(cosine"):
        Int8Model(model, 1)


def test_a_model_of_long_texts_is_refused(model: "SentenceTransformer") -> None:
    model.max_seq_length = 8192
    with pytest.raises(ValueError, match="1,024 tokens at most, and this one reads 8,192"):
        Int8Model(model, 1)


def test_the_reason_why_a_model_cannot_be_converted_is_told(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Failed.\nThis is step 1/3") from OSError("no usable folder")

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(
        UnusableModelError, match=r"int8: it cannot be converted: no usable folder$"
    ):
        Embedder("", "cpu", "int8").load()


def test_a_forked_process_embeds_a_query(embedder: Embedder) -> None:
    """A web server loads the model, answers a search and forks its workers."""
    exact = embedder.encode(TEXTS)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def search() -> None:
        answers.put([embedder.encode(TEXTS[:1])[0], embedder.encode(TEXTS)])

    child = context.Process(target=search, daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    one, all_ = answers.get()
    assert np.array_equal(one, exact[0])
    assert np.array_equal(all_, exact)


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


def test_nothing_is_reported_to_the_maker_of_the_runtime(embedder: Embedder, cache: Path) -> None:
    """It keeps what it has not sent yet, and an id of the machine, in the user's cache. Where CI is
    set it sends nothing anyway, so the process has an environment of its own.
    """
    embedder.encode(TEXTS[:1])  # the conversion is there
    environment = {"PATH": os.environ["PATH"], "HOME": str(cache.parent.parent)}
    program = "from flows.embedding.embedder import *; Embedder('', 'cpu', 'int8').encode(['x'])"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
    assert [file.name for file in cache.parent.rglob("*onnxruntime*")] == []
    assert [file.name for file in cache.parent.rglob("deviceid")] == []
