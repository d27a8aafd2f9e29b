"""`flows.features` and `flows.reconcile` with vectors of 384 components that cost no model.

python -m bytewax.run benchmarks.scale_flow
python -m benchmarks.scale_flow             the reconciliation
"""

import sys
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from bytewax.dataflow import Dataflow
from typing_extensions import override

from flows.command import run_command
from flows.embedding.embedder import Vectors
from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.reconcile import main
from flows.settings import Settings
from models.metrics import CHUNKS_EMBEDDED
from tests.hashing import HashingEmbedder


class WideHashingEmbedder(HashingEmbedder):
    """The hashing embedder with as many components as the packaged model."""

    name = "wide hashing"
    dimension = 384

    @override
    def encode(self, texts: Sequence[str]) -> Vectors:
        CHUNKS_EMBEDDED.inc(len(texts))
        rows = np.empty((len(texts), self.dimension), np.float32)
        for row, text in zip(rows, texts, strict=True):
            seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
            row[:] = np.random.default_rng(seed).standard_normal(self.dimension, np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, WideHashingEmbedder()))


if __name__ == "__main__":
    sys.exit(run_command("reconcile", lambda: main(embedder=WideHashingEmbedder())))
