"""Tools to pick instead, on the same documents: LangChain's indexing API and LlamaIndex's
ingestion pipeline, beside this project.

Every one has 100 documents of the corpus, the same embedder, and Qdrant in memory. The longest
article is given one paragraph more, in 20 seeded places, each time starting from the untouched
article; then it is deleted at the source. The tools cut with their own default splitter into chunks
of the same largest size, without overlap (an overlap would only add chunks to embed).
"""

import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from statistics import mean
from typing import Any, Final

from benchmarks.chunking import insertion
from benchmarks.documents import Document
from benchmarks.edits import other_paragraphs
from benchmarks.peer_tools import LangChain, LlamaIndex, Peer, Twinstream, text_of
from benchmarks.place import Servers
from benchmarks.report import Measured
from examples.corpus import corpus

DOCUMENTS: Final = 100
EDITS: Final = 20


def peers(_servers: Servers) -> dict[str, Measured]:
    """All tools, one after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # payload indexes have no effect in memory
        return {
            **_rows("twinstream", Twinstream, {"handed_at_each_sync": 1}),
            **_beside(
                _rows("langchain", LangChain, _handed_all("langchain-core")),
                "with_incremental_cleanup",
                _rows("langchain", lambda: LangChain("incremental"), {}),
            ),
            **_beside(
                _rows("llamaindex", LlamaIndex, _handed_all("llama-index-core")),
                "with_embedding_cache",
                _rows("llamaindex", lambda: LlamaIndex(embedding_cache=True), {}),
            ),
        }


def _beside(
    rows: dict[str, Measured], label: str, variant: dict[str, Measured]
) -> dict[str, Measured]:
    """Rows of a tool with what another mode of it gave in their details."""
    return {
        name: replace(row, detail={**row.detail, label: round(variant[name].value, 2)})
        for name, row in rows.items()
    }


def _rows(name: str, tool: Callable[[], Peer], detail: dict[str, Any]) -> dict[str, Measured]:
    """The four rows of a tool."""
    documents = list(islice(corpus(), DOCUMENTS))
    at = max(
        (index for index, (collection, _) in enumerate(documents) if collection == "articles"),
        key=lambda index: len(text_of(documents[index])),
    )
    edit = insertion(other_paragraphs())
    peer = tool()
    peer.sync(documents)
    chunks = _texts(peer, documents[at]).total()
    costs, stale, least, most = [], [], [], []
    for seed in range(EDITS):
        edited = _edited(documents[at], edit, random.Random(seed))
        before = peer.embedder.encoded
        with peer.client.watching(*peer.place(edited)) as counts:
            peer.sync([*documents[:at], edited, *documents[at + 1 :]])
        costs.append(peer.embedder.encoded - before)
        least.append(min(counts))
        most.append(max(counts))
        stored, wanted = _texts(peer, edited), _fresh(tool, edited)
        assert not wanted - stored, f"{name} lost {wanted - stored}"
        stale.append((stored - wanted).total())
        peer.sync(documents)
    peer.sync([*documents[:at], *documents[at + 1 :]])
    left = _texts(peer, documents[at]).total()
    return {
        f"peer_{name}_chunks_embedded": Measured(
            mean(costs),
            {
                "most": max(costs),
                "document": documents[at][1]["content"]["Title"],
                "document_chunks": chunks,
                "edits": EDITS,
                **detail,
            },
        ),
        f"peer_{name}_stale_points": Measured(max(stale), {"edits": EDITS}),
        f"peer_{name}_least_visible": Measured(
            min(least), {"document_chunks": chunks, "most_visible": max(most), "edits": EDITS}
        ),
        f"peer_{name}_left_after_delete": Measured(left, {"document_chunks": chunks}),
    }


def _handed_all(package: str) -> dict[str, Any]:
    return {"handed_at_each_sync": DOCUMENTS, "version": version(package)}


def _fresh(tool: Callable[[], Peer], document: Document) -> Counter[str]:
    """Texts of the document's points in a store that never held anything else."""
    peer = tool()
    peer.sync([document])
    return _texts(peer, document)


def _texts(peer: Peer, document: Document) -> Counter[str]:
    collection, only = peer.place(document)
    points, _ = peer.client.scroll(collection, only, limit=10_000)
    return Counter(peer.text(point.payload) for point in points)


def _edited(
    document: Document,
    edit: Callable[[list[str], random.Random], list[str]],
    rng: random.Random,
) -> Document:
    collection, body = document
    content = "\n\n".join(edit(body["content"]["Content"].split("\n\n"), rng))
    return collection, {**body, "content": {**body["content"], "Content": content}}


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured in peers(servers_).items():
            print(name_, measured.value, dict(measured.detail))
