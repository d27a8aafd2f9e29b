"""What an edit in front of a long document writes: points, counted at the client of the store."""

import sysconfig
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

from qdrant_client import QdrantClient

from benchmarks.chunking import docstrings
from benchmarks.documents import Document
from benchmarks.edits import Twin
from benchmarks.place import Servers
from benchmarks.report import Measured
from tests.counted import CountedWrites

LEAST_CHUNKS: Final = 2000
WORDS: Final = ("Draft", "the", "Überarbeitet:", "2026", "def")
_PROSE_CHARACTERS: Final = 1_500_000
_CODE_CHARACTERS: Final = 2_000_000


def long_document(_servers: Servers) -> dict[str, Measured]:
    """One word put in front of an article and of a file of code, each of the untouched document."""
    prose, prose_chunks = _writes(_article, _joined("\n\n", chain(topics.values(), _docstrings())))
    code, code_chunks = _writes(_repository, _joined("\n", _sources(), _CODE_CHARACTERS))
    detail = {
        "prose": prose,
        "code": code,
        "prose_chunks": prose_chunks,
        "code_chunks": code_chunks,
    }
    big = min(prose_chunks, code_chunks) >= LEAST_CHUNKS
    return {"edit_long_document_writes": Measured(max(*prose, *code), detail, big)}


def _writes(made_of: Callable[[str], Document], text: str) -> tuple[list[int], int]:
    """Points written for each word, and the chunks of the untouched document."""
    client: Any = CountedWrites(QdrantClient(":memory:"))
    twin = Twin(client)
    chunks = twin.apply([made_of(text)], "insert")
    counts = []
    for word in WORDS:
        client.points.clear()
        twin.apply([made_of(f"{word} {text}")])
        counts.append(client.points.total())
        twin.apply([made_of(text)])
    return counts, chunks


def _joined(glue: str, parts: Iterable[str], characters: int = _PROSE_CHARACTERS) -> str:
    """As many parts as it takes."""
    taken, length = [], 0
    for part in parts:
        taken.append(part)
        length += len(part)
        if length > characters:
            break
    return glue.join(taken)


def _docstrings() -> Iterable[str]:
    return (text for _, text in docstrings())


def _sources() -> Iterable[str]:
    library = Path(sysconfig.get_path("stdlib"))
    return (file.read_text(errors="replace") for file in sorted(library.glob("*.py")))


def _article(text: str) -> Document:
    content = {"Title": "Everything", "Content": text, "language": "en"}
    return "articles", {"_id": 1, "platform": "x", "author_id": "me", "content": content}


def _repository(text: str) -> Document:
    content = {"everything.py": text}
    return "repositories", {"_id": 2, "name": "lib", "owner_id": "me", "content": content}
