"""The cost of a change: chunks given to the embedder, counted, through the flow's own graph."""

import random
import textwrap
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from statistics import mean
from typing import Any, Final

from bytewax.testing import TestingSink, TestingSource, run_main
from qdrant_client import QdrantClient

from benchmarks.chunking import EDITS, Edit, insertion, long_texts, move
from benchmarks.documents import Document, chunker, messages
from benchmarks.place import Servers
from benchmarks.report import Measured
from connectors.qdrant import QdrantStore
from flows.features import build
from flows.operators.index import Indexer
from models import DOCUMENT_TYPES, DeadLetter, Delivery
from tests.hashing import HashingEmbedder

LEAST_CHUNKS: Final = 100


class Twin:
    """The features flow on a store in memory, fed message by message."""

    def __init__(self, client: QdrantClient | None = None) -> None:
        self.embedder = HashingEmbedder()
        store = QdrantStore(client or QdrantClient(":memory:"), DOCUMENT_TYPES)
        store.ensure_collections(self.embedder.dimension)
        self._indexer = Indexer(store, self.embedder)
        self._chunker = chunker()
        self._version = 0

    def apply(self, some: Sequence[Document], op: str = "replace") -> int:
        """Send documents through the flow; how many chunks were embedded for them."""
        self._version += 1
        before = self.embedder.encoded
        sent = messages(some, ["q"], self._version << 32, op)
        dead: list[Any] = []
        deliveries = [Delivery("q", message.body, message.headers) for message in sent]
        source = TestingSource(deliveries, batch_size=64)
        flow = build(source, lambda: self._chunker, self._indexer, TestingSink(dead))
        run_main(flow)
        assert not [letter for letter in dead if isinstance(letter, DeadLetter) or letter]
        return self.embedder.encoded - before


def edits(_servers: Servers) -> dict[str, Measured]:
    """Fifty seeded edits of each kind, each of the untouched document."""
    _, _, definitions, functions = long_texts()
    paragraphs = _paragraphs()
    added = insertion(other_paragraphs())
    prose, prose_chunks = _costs(_article(paragraphs), paragraphs, added, _article)
    code, code_chunks = _costs(
        _repository(definitions), definitions, _function(functions), _repository
    )
    moved, _ = _costs(_article(paragraphs), paragraphs, move, _article)
    big = min(prose_chunks, code_chunks) >= LEAST_CHUNKS
    twin = Twin()
    unedited = [
        _article(paragraphs),
        _repository(definitions),
        ("posts", {"_id": 3, "content": "p"}),
    ]
    twin.apply(unedited, "insert")
    renamed = [
        (collection, {**document, "platform": "another", "link": "https://example.org/moved"})
        for collection, document in unedited
    ]
    metadata = twin.apply(renamed, "update")
    twin.apply(unedited)
    return {
        "edit_one_paragraph": Measured(
            max(mean(prose), mean(code)),
            {
                "prose": round(mean(prose), 2),
                "code": round(mean(code), 2),
                "prose_chunks": prose_chunks,
                "code_chunks": code_chunks,
                "most": max(*prose, *code),
                "edits": EDITS,
            },
            big,
        ),
        "edit_metadata": Measured(metadata),
        "replace_unchanged": Measured(twin.apply(unedited)),
        "resnapshot_unchanged": Measured(twin.apply(unedited, "snapshot")),
        "move_paragraph": Measured(mean(moved), {"most": max(moved), "edits": EDITS}),
        **_reported(),
    }


def _reported() -> dict[str, Measured]:
    """Cases that users of other systems reported, rebuilt in size and shape."""
    sections = _sections(105_000)
    markdown, chunks = _costs(
        _markdown(sections), sections, insertion(other_paragraphs()), _markdown
    )
    renamed, _ = _costs(_markdown(sections), sections, _rename, _markdown)
    by_section = chunks / len(sections)
    words = _sections(10_000_000)
    word, all_chunks = _costs(_markdown(words), words, _replace_word, _markdown, edits=2)
    return {
        "edit_amid_markdown": Measured(mean(markdown), {"chunks": chunks, "most": max(markdown)}),
        "edit_one_word_of_10_mb": Measured(max(word), {"chunks": all_chunks, "edits": len(word)}),
        "edit_rename_heading": Measured(
            mean(renamed), {"most": max(renamed), "chunks_of_a_section": round(by_section, 1)}
        ),
    }


def _sections(characters: int) -> list[str]:
    """Python's own manual, a section with a heading for each topic, over and over."""
    made: list[str] = []
    size = 0
    while size < characters:
        for name, text in topics.items():
            made.append(f"## {name} {len(made)}\n\n{text}")
            size += len(made[-1])
            if size >= characters:
                break
    return made


def _markdown(sections: list[str]) -> Document:
    return "posts", {"_id": 4, "content": "\n\n".join(sections)}


def _rename(sections: list[str], chance: random.Random) -> list[str]:
    at = chance.randrange(len(sections))
    _, _, text = sections[at].partition("\n")
    return [*sections[:at], f"## renamed\n{text}", *sections[at + 1 :]]


def _replace_word(sections: list[str], chance: random.Random) -> list[str]:
    at = chance.randrange(len(sections))
    heading, _, text = sections[at].partition("\n")
    words = text.split(" ")
    words[chance.randrange(len(words))] = "replaced"
    return [*sections[:at], f"{heading}\n{' '.join(words)}", *sections[at + 1 :]]


def _costs(
    document: Document,
    parts: list[str],
    edit: Callable[[list[str], random.Random], list[str]],
    made_of: Callable[[list[str]], Document],
    edits: int = EDITS,
) -> tuple[list[int], int]:
    """Chunks embedded for each edit, and the chunks of the untouched document."""
    twin = Twin()
    chunks = twin.apply([document], "insert")
    costs = []
    for seed in range(edits):
        costs.append(twin.apply([made_of(edit(parts, random.Random(seed)))]))
        twin.apply([document])
    return costs, chunks


def _function(new: list[str]) -> Edit:
    """Insert a function before another, and indented like it: it does not end a class."""

    def insert(parts: list[str], chance: random.Random) -> list[str]:
        at = chance.randrange(1, len(parts))
        line = next(line for line in parts[at].splitlines() if line.strip())
        indent = line[: len(line) - len(line.lstrip())]
        return [*parts[:at], textwrap.indent(chance.choice(new), indent), *parts[at:]]

    return insert


def _paragraphs() -> list[str]:
    """Python's own manual in paragraphs."""
    return "\n\n".join(list(topics.values())[:40]).split("\n\n")[:500]


def other_paragraphs() -> list[str]:
    """Others of the manual, to insert."""
    paragraphs = "\n\n".join(list(topics.values())[40:]).split("\n\n")
    return [p for p in paragraphs if 200 < len(p) < 900]


def _article(paragraphs: list[str]) -> Document:
    content = {"Title": "Topics", "Content": "\n\n".join(paragraphs), "language": "en"}
    return "articles", {"_id": 1, "platform": "x", "author_id": "me", "content": content}


def _repository(definitions: list[str]) -> Document:
    content = {"argparse.py": "\n".join(definitions)}
    return "repositories", {"_id": 2, "name": "lib", "owner_id": "me", "content": content}


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured in edits(servers_).items():
            print(name_, measured.value, measured.detail)
