"""`Reranker`: a cross-encoder, which reads a query and a text together."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from models.errors import UnusableModelError

_HEAD: Final = "ForSequenceClassification"
"""Ends the name of an architecture that gives scores. On any other, the library would put a head
of random weights."""
_READ: Final = 2000
"""Characters of a query: a longer one would leave no room for the text."""


class PairScorer(Protocol):
    """The part of a re-ranker that a search needs."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query; the higher, the better."""
        ...


class Reranker:
    """A cross-encoder of sentence-transformers in a folder.

    Thread-safe; loaded by `load()` or by the first use. It asks no model hub for anything.

    :param folder: of the model
    :param device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`
    :raises FileNotFoundError: there is no cross-encoder in it
    """

    def __init__(self, folder: str, device: str = "auto") -> None:
        self._folder = locate_reranker(folder)
        self._device = None if device == "auto" else device
        self._lock = threading.Lock()
        self._model: Any = None
        self._threads = 1

    def load(self) -> None:
        """Load the model, unless it is loaded.

        :raises UnusableModelError: it cannot be loaded, or gives more than one score for a pair
        """
        with self._lock:
            if self._model is not None:
                return
            try:
                self._model = self._load()
            except Exception as error:
                problem = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UnusableModelError(
                    f"the cross-encoder in {self._folder} cannot be used: {problem:.300}"
                ) from error

    def _load(self) -> Any:
        import torch
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no type here
        self._threads = torch.get_num_threads()
        model = CrossEncoder(str(self._folder), device=self._device, local_files_only=True)
        if model.num_labels != 1:
            raise ValueError(f"it gives {model.num_labels} scores for a pair, not one")
        return model

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query; the higher, the better.

        :raises UnusableModelError: as `load`
        """
        self.load()
        if not texts:
            return []
        import torch

        pairs = [(query[:_READ], text) for text in texts]
        with self._lock:
            torch.set_num_threads(self._threads)  # the embedder takes one for a short query
            found = self._model.predict(pairs, show_progress_bar=False)
        return [float(score) for score in found]


def locate_reranker(folder: str) -> Path:
    """The folder of a cross-encoder.

    :raises FileNotFoundError: there is none in it
    """
    path = Path(folder).expanduser()
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config["architectures"]]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise FileNotFoundError(f"there is no cross-encoder in {folder}") from error
    if not any(name.endswith(_HEAD) for name in architectures):
        made = ", ".join(architectures) or "no architecture"
        raise FileNotFoundError(f"the model in {folder} is {made}, not …{_HEAD}")
    return path
