"""`flows.features` with real models that note each text that they embed, in the file EMBEDDED_LOG.

Run with `python -m bytewax.run benchmarks.migration_flow`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bytewax.dataflow import Dataflow

from flows.embedding.embedder import ChunkingEmbedder, Vectors
from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.places import embedders
from flows.settings import Settings
from models.fresh import text_hash


class Noting:
    """An embedder that appends a line for each text: its model, and the text's hash."""

    def __init__(self, embedder: ChunkingEmbedder) -> None:
        self._embedder = embedder
        self._log = Path(os.environ["EMBEDDED_LOG"])

    @property
    def name(self) -> str:
        """The model's."""
        return self._embedder.name

    @property
    def dimension(self) -> int:
        """The model's."""
        return self._embedder.dimension

    @property
    def max_tokens(self) -> int:
        """The model's."""
        return self._embedder.max_tokens

    @property
    def tokenizer(self) -> Any:
        """The model's."""
        return self._embedder.tokenizer

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed and note texts."""
        with self._log.open("a") as log:
            log.writelines(f"{self.name} {text_hash(text)}\n" for text in texts)
        return self._embedder.encode(texts)


def flow() -> Dataflow:
    """The features flow."""
    settings = Settings.from_env()
    settings.configure_logging()
    of = embedders(settings)
    return assemble(settings, ModelAndStore(settings, embedder_of=lambda model: Noting(of(model))))
