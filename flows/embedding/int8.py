"""A model whose products are of 8-bit integers, by ONNX Runtime.

The conversion is made here from the weights, without a download, and kept in the user's cache. The
library's own ONNX backend would do the same; its exporter does not go with transformers 5.
"""

import logging
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

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flows.embedding.embedder import Vectors

log = logging.getLogger("flows")

_OPSET: Final = 18
_INPUTS: Final = ("input_ids", "attention_mask")
_FAST: Final = ("avx512_vnni", "avx_vnni", "amx_int8")


class Int8Model:
    """The vectors of a sentence-transformers model, computed with 8-bit integers.

    The weights are rounded once, by channel; what enters a layer is rounded by the range that it
    has there. Each text is a forward pass of its own, on one thread, so that this range is that of
    the text alone: its vector does not depend on the texts beside it. Several threads take texts
    in turn. Not thread-safe.

    :param model: in float32; its first module is converted, and the others are used as they are
    :param threads: how many texts are embedded at a time
    :raises ValueError: an optional package is missing, or the device has no instructions for it
    """

    def __init__(self, model: "SentenceTransformer", threads: int) -> None:
        if model.device.type != "cpu":
            raise ValueError("it is for EMBEDDING_DEVICE=cpu")
        check_processor()
        try:
            import onnxruntime
            import onnxscript  # noqa: F401 (the conversion needs it)
        except ImportError:
            raise ValueError("it needs ONNX Runtime: pip install '.[int8]'") from None
        self._after = list(model)[1:]
        self._threads = ThreadPoolExecutor(threads, "int8")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = _opened(model, options)

    def encode(self, ids: Sequence[Sequence[int]]) -> "Vectors":
        """Vectors of length 1, shape (texts, dimension).

        :param ids: tokens of each text, with the special ones
        """
        return np.stack(list(self._threads.map(self._encode_one, ids)))

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
    with suppress(Exception):  # it is missing, or damaged, whatever the library makes of that
        return InferenceSession((_cache() / name).read_bytes(), options, providers=provider)
    log.info("int8: the model is converted, once on this machine")
    with _without_remarks():
        made = _convert(model)
    with suppress(OSError, RuntimeError):  # then the next start takes as long as this one
        _cache().mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of one name: after a kill, the next start writes over it.
        half = (_cache() / name).with_suffix(".new")
        half.write_bytes(made)
        half.rename(_cache() / name)
    return InferenceSession(made, options, providers=provider)


def _cache() -> Path:
    return Path.home() / ".cache" / "twinstream"


def _fingerprint(model: "SentenceTransformer") -> str:
    """Of all that the conversion follows from."""
    import onnx
    import onnxruntime
    import torch

    versions = (torch.__version__, onnx.__version__, onnxruntime.__version__, _OPSET)
    digest = sha256(repr((versions, str(model[0]))).encode())
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
    program = torch.onnx.export(
        Layers().eval(), (ids, torch.ones_like(ids)), input_names=list(_INPUTS),
        dynamic_shapes=(axes, axes), opset_version=_OPSET, dynamo=True, verbose=False,
    )  # fmt: skip
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
