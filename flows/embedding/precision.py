"""The numbers that a model computes with: the fastest kind that does not change its vectors."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flows.embedding.embedder import Vectors

FLOAT32 = "float32"
FLOAT16 = "float16"
BFLOAT16 = "bfloat16"
INT8 = "int8"
"""The fastest on a processor, and the only one that moves vectors: never automatic."""
PRECISIONS = (FLOAT32, FLOAT16, BFLOAT16, INT8)

LEAST_COSINE = 0.999
"""The least cosine between the vectors of a text in float32 and in another precision."""

TRIAL_TEXTS = (
    "Change streams report every insert, update and delete in the order of their commits.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)\n",
    "Größe, naïveté, данные, 変更 and 🚢: 1.5e-3 %",
    "ships",
)
"""Texts by which the vectors of a precision are compared with those of float32."""


def candidates(device: str = "auto") -> tuple[str, ...]:
    """The precisions in which the hardware is faster than in float32, the more exact one first.

    They follow from its instructions, not from a measurement: the same machine must always get the
    same answer, since another precision means other vectors. float16 keeps three bits more than
    bfloat16 at the same speed, but only numbers up to 65504. Without AMX tiles, an AMD that has
    bfloat16 is 2.3 times as fast with it (an EPYC, all-MiniLM-L6-v2, oneDNN 3.12); an Intel
    gains nothing: 0.75 times the speed of float32 with bfloat16, 1.0 with float16.

    :param device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and torch.cuda.is_available():
        generation, _ = torch.cuda.get_device_capability(device)  # 7 brought tensor cores
        fast = {FLOAT16: generation >= 7, BFLOAT16: generation >= 8}
    elif device == "cpu":
        able = torch.cpu.get_capabilities()
        amd = str(able.get("cpu_name", "")).startswith("AMD") and able.get("avx512_bf16", False)
        fast = {FLOAT16: able.get("amx_fp16", False), BFLOAT16: able.get("amx_bf16", False) or amd}
    else:
        fast = {}
    return tuple(precision for precision, is_fast in fast.items() if is_fast)


def load(
    read: Callable[[], "SentenceTransformer"], precision: str, device: str = "auto"
) -> tuple["SentenceTransformer", str]:
    """A model in a precision, and that precision; for int8 in float32, see `flows.embedding.int8`.

    :param read: loads the model; called again after a precision that does not suit it
    :param precision: one of `PRECISIONS`, or `auto` for the first of the candidates in which a
        few texts have finite vectors of nearly the same direction as in float32: a model that
        was trained in bfloat16 may exceed the range of float16
    :raises ValueError: the model's weights exceed the range of the precision that was asked for
    """
    if precision != "auto":
        model = _cast(read(), FLOAT32 if precision == INT8 else precision)
        if not all(weights.isfinite().all() for weights in model.parameters()):
            raise ValueError(f"its weights exceed the range of {precision}")
        return model, precision
    model = _cast(read(), FLOAT32)
    exact = directions(model)
    for candidate in candidates(device):
        if _agree(directions(_cast(model, candidate)), exact):
            return model, candidate
        model = _cast(read(), FLOAT32)
    return model, FLOAT32


def model_name(base: str, precision: str) -> str:
    """The name of the vectors of a model in a precision."""
    return base if precision == FLOAT32 else f"{base}/{precision}"


def names_of_the_model(name: str) -> list[str]:
    """The names of a model in all precisions, which a search treats alike and the flow does not."""
    base, _, precision = name.rpartition("/")
    base = base if base and precision in PRECISIONS else name
    return [model_name(base, each) for each in PRECISIONS]


def _cast(model: "SentenceTransformer", precision: str) -> "SentenceTransformer":
    """The model in a precision; in bfloat16 on a CPU, only the products in it.

    The sums from layer to layer, and the norms, stay in float32. That leaves a third of the
    deviation, at the same speed.
    """
    import torch

    if precision == BFLOAT16 and model.device.type == "cpu":
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(torch.bfloat16)  # once, instead of in each pass
        model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)  # type: ignore[method-assign]  # mypy knows no other way
        return model
    cast: SentenceTransformer = model.to(getattr(torch, precision))
    return cast


def directions(model: "SentenceTransformer") -> "Vectors":
    """Vectors of the trial texts, of length 1, shape (texts, dimension)."""
    vectors = model.encode(
        list(TRIAL_TEXTS), prompt="", convert_to_tensor=True, show_progress_bar=False
    )
    vectors = vectors.float()
    found: Vectors = (vectors / vectors.norm(dim=1, keepdim=True)).cpu().numpy()
    return found


def _agree(some: "Vectors", others: "Vectors") -> bool:
    # what is no number compares as false
    return bool((np.sum(some * others, axis=1) >= LEAST_COSINE).all())
