"""What stands in the place of the model, and of the process that works on texts."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import Tokenizer

from flows.text.chunk import Chunker, Span
from flows.text.clean import clean_texts
from tests.hashing import HashingEmbedder


class Hashing(HashingEmbedder):
    """The hashing embedder, made as the model is."""

    def __init__(self, *_settings: Any) -> None:
        super().__init__()

    @property
    def tokenizer(self) -> Tokenizer:  # type: ignore[override]
        """Read once for all programs."""
        return _model().tokenizer


class InProcess:
    """The work on texts without a process of its own: it calls no driver."""

    def __init__(self, _model: Callable[[], Any]) -> None:
        self._chunker = _chunker()

    def load(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""

    def clean(self, texts: Sequence[str]) -> list[str]:
        """As `BoundedText.clean`."""
        return clean_texts(texts)

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """As `BoundedText.split_all`."""
        return self._chunker.split_all(texts)


@cache
def _model() -> HashingEmbedder:
    return HashingEmbedder()


@cache
def _chunker() -> Chunker:
    return Chunker(_model().tokenizer, _model().max_tokens)


_chunker()  # before programs are forked
