"""An embedder without a model: the same text gives the same unit vector, in microseconds."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from flows.embedding.embedder import Vectors, locate_model
from models.metrics import CHUNKS_EMBEDDED


class HashingEmbedder:
    """Stands in for `Embedder` where the meaning of a vector does not matter.

    Cuts with the real model's tokenizer, so that chunks are the real ones.
    """

    name = "hashing"
    dimension = 32
    max_tokens = 254

    def __init__(self) -> None:
        self.encoded = 0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(Path(locate_model("")[0]) / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def load(self) -> None:
        """Nothing to load."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += len(texts)
        CHUNKS_EMBEDDED.inc(len(texts))
        rows = [
            np.frombuffer(blake2b(text.encode(), digest_size=self.dimension).digest(), np.uint8)
            for text in texts
        ]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension) - 127.5
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
