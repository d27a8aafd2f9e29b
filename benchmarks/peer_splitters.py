"""The splitters that LangChain and LlamaIndex use unless told otherwise, as chunkers of the flow.

- LangChain: `RecursiveCharacterTextSplitter`, 4,000 characters, of which 200 overlap.
- LlamaIndex: `SentenceSplitter`, 1,024 tokens, of which 200 overlap.

Both embed a chunk's text alone, without where it stands, and search dense vectors. The model reads
256 tokens of each, as it does there.
"""

from collections.abc import Callable, Sequence
from typing import Final

from flows.text.chunk import Span


class PeerSplitter:
    """The chunker of another tool.

    :param split: the chunks of a text, in their order
    """

    def __init__(self, split: Callable[[str], Sequence[str]]) -> None:
        self._split = split

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """Cut the texts of one document; both tools treat source code as any text."""
        return [list(_spans(text, self._split(text))) for text, _ in texts]


def _spans(text: str, chunks: Sequence[str]) -> list[Span]:
    spans: list[Span] = []
    after = 0
    for chunk in filter(None, chunks):
        start = text.find(chunk, after)
        if start < 0:
            raise ValueError(f"a chunk is no part of its text: {chunk[:60]!r}")
        after = start + 1
        spans.append(Span(start, start + len(chunk)))
    return spans


def _langchain() -> PeerSplitter:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    return PeerSplitter(RecursiveCharacterTextSplitter().split_text)


def _llama_index() -> PeerSplitter:
    from llama_index.core.node_parser import SentenceSplitter

    return PeerSplitter(SentenceSplitter().split_text)


PEERS: Final[dict[str, Callable[[], PeerSplitter]]] = {
    "LangChain": _langchain,
    "LlamaIndex": _llama_index,
}
