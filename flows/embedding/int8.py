"""A model whose products are of 8-bit integers, by ONNX Runtime.

The conversion is made here from the weights, without a download, and kept in the user's cache. The
library's own ONNX backend would do the same; its exporter does not go with transformers 5.
"""

import logging
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flows.embedding.precision import TRIAL_TEXTS, directions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flows.embedding.embedder import Vectors

log = logging.getLogger("flows")

_OPSET: Final = 18
_INPUTS: Final = ("input_ids", "attention_mask")
_FAST: Final = ("avx512_vnni", "avx_vnni", "amx_int8")
_MOST_TOKENS: Final = 1024
"""Of a text: without the fused attention of float32, memory follows their square."""
_LEAST_COSINE: Final = 0.95
_DIGEST: Final = 32


class Int8Model:
    """The vectors of a sentence-transformers model, computed with 8-bit integers.

    The weights are rounded once, by channel; what enters a layer is rounded by the range that it
    has there. Each text is a forward pass of its own, on one thread, so that this range is that of
    the text alone: its vector does not depend on the texts beside it. Several threads take texts
    in turn. Not thread-safe; goes on in a process that is forked.

    :param model: in float32; its first module is converted, and the others are used as they are
    :param threads: how many texts are embedded at a time
    :raises ValueError: an optional package is missing, the device has no instructions for it, or
        the model is none for it: one that reads long texts, one that cannot be converted, or one
        whose vectors would be others
    """

    def __init__(self, model: "SentenceTransformer", threads: int) -> None:
        if model.device.type != "cpu":
            raise ValueError("it is for EMBEDDING_DEVICE=cpu")
        check_processor()
        if (model.max_seq_length or 0) > _MOST_TOKENS:
            raise ValueError(
                f"it is for models that read {_MOST_TOKENS:,} tokens at most, and this one reads "
                f"{model.max_seq_length:,}"
            )
        # From 1.29 on it reports each process and each model to its maker, unless told before.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
            import onnxscript  # noqa: F401 (the conversion needs it)
        except ImportError:
            raise ValueError("it needs ONNX Runtime: pip install '.[int8]'") from None
        self._after = list(model)[1:]
        self._threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = _opened(model, options)
        self._compare(model)

    def encode(self, ids: Sequence[Sequence[int]]) -> "Vectors":
        """Vectors of length 1, shape (texts, dimension).

        :param ids: tokens of each text, with the special ones
        """
        if len(ids) == 1:
            return self._encode_one(ids[0])[None]
        with ThreadPoolExecutor(self._threads, "int8") as threads:
            return np.stack(list(threads.map(self._encode_one, ids)))

    def _compare(self, model: "SentenceTransformer") -> None:
        """Only the first module is converted: others may use more of it than its output here."""
        ids = model.tokenizer(list(TRIAL_TEXTS), truncation=True, max_length=model.max_seq_length)
        cosines = np.sum(self.encode(ids["input_ids"]) * directions(model), axis=1)
        if not (cosines >= _LEAST_COSINE).all():
            raise ValueError(
                f"its vectors are not those of float32 (cosine {cosines.min():.3f}): take another "
                "precision"
            )

    def _encode_one(self, ids: Sequence[int]) -> "Vectors":
        import torch

        tokens = np.asarray([ids], dtype=np.int64)
        given = dict(zip(_INPUTS, (tokens, np.ones_like(tokens)), strict=True))
        [embedded] = self._session.run(None, given)
        features: dict[str, Any] = {name: torch.from_numpy(value) for name, value in given.items()}
        features["token_embeddings"] = torch.from_numpy(embedded)
        with torch.inference_mode():
            for module in self._after:
                features = module(features)
            vector = torch.nn.functional.normalize(features["sentence_embedding"][0], dim=0)
        found: Vectors = vector.numpy()
        return found


def check_processor() -> None:
    """Whether products of 8-bit integers are exact and fast here.

    :raises ValueError: it is an Intel or AMD without VNNI, where sums of products overflow
    """
    import torch

    able = torch.cpu.get_capabilities()
    if platform.machine() in ("x86_64", "AMD64") and not any(able.get(name) for name in _FAST):
        raise ValueError("it needs a processor with VNNI")


def _opened(model: "SentenceTransformer", options: Any) -> Any:
    """The first module of a model, with integers; kept for the next start."""
    from onnxruntime import InferenceSession

    name = f"int8-{_fingerprint(model)}.onnx"
    provider = ["CPUExecutionProvider"]
    with suppress(OSError, RuntimeError):  # there is none
        kept = (_cache() / name).read_bytes()
        if sha256(kept[_DIGEST:]).digest() == kept[:_DIGEST]:
            return InferenceSession(kept[_DIGEST:], options, providers=provider)
    log.info("int8: the model is converted, once on this machine")
    with _without_remarks():
        made = _convert(model)
    with suppress(OSError, RuntimeError):  # then the next start takes as long as this one
        _cache().mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of one name: after a kill, the next start writes over it.
        half = (_cache() / name).with_suffix(".new")
        half.write_bytes(sha256(made).digest() + made)
        half.rename(_cache() / name)
    return InferenceSession(made, options, providers=provider)


def _cache() -> Path:
    return Path.home() / ".cache" / "twinstream"


def _fingerprint(model: "SentenceTransformer") -> str:
    """Of all that the conversion follows from."""
    import onnx
    import onnxruntime
    import sentence_transformers
    import torch
    import transformers

    libraries = (torch, onnx, onnxruntime, transformers, sentence_transformers)
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    versions = [library.__version__ for library in libraries]
    digest = sha256(repr((versions, _OPSET, str(model[0]), str(config))).encode())
    for name, weights in model[0].state_dict().items():
        digest.update(name.encode())
        digest.update(weights.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _convert(model: "SentenceTransformer") -> bytes:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model[0]

        def forward(self, ids: Any, mask: Any) -> Any:
            features = dict(zip(_INPUTS, (ids, mask), strict=True))
            return self.layers(features)["token_embeddings"]

    ids = torch.ones((2, 8), dtype=torch.int64)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        program = torch.onnx.export(
            Layers().eval(), (ids, torch.ones_like(ids)), input_names=list(_INPUTS),
            dynamic_shapes=(axes, axes), opset_version=_OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    except Exception as error:  # its own first line says only that it failed
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"it cannot be converted: {cause}") from error
    assert program is not None
    with TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        quantize_dynamic(
            program.model_proto, file, op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8, per_channel=True,
        )  # fmt: skip
        return file.read_bytes()


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Both tools talk of what is not needed here; one of them to the root logger itself."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    root = logging.getLogger()
    root.addFilter(_none)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_none)


def _none(_: logging.LogRecord) -> bool:
    return False
