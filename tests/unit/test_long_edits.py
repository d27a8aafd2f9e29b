"""An edit of a long document writes what it changes, and leaves what a fresh sync would store."""

from pydoc_data.topics import topics
from typing import Any

import pytest
from qdrant_client import QdrantClient

from benchmarks.documents import Document
from benchmarks.edits import Twin
from connectors.qdrant import cleaned, vectors_of
from models.fresh import MAY_DIFFER
from tests.counted import CountedWrites

PARAGRAPHS = "\n\n".join(list(topics.values())[:60]).split("\n\n")
TEXT = "\n\n".join(PARAGRAPHS)
EDITS = {
    "a word in front": f"Draft {TEXT}",
    "a word at the end": f"{TEXT} Draft",
    "a paragraph in front": "\n\n".join(["One paragraph more.", *PARAGRAPHS]),
    "the first paragraph gone": "\n\n".join(PARAGRAPHS[1:]),
}
MOST = 8
"""Points that such an edit may write."""


def article(text: str) -> Document:
    content = {"Title": "Topics", "Content": text, "language": "en"}
    return "articles", {"_id": 1, "platform": "x", "author_id": "me", "content": content}


def stored(client: QdrantClient) -> dict[str, dict[str, Any]]:
    return {
        str(point.id): {k: v for k, v in (point.payload or {}).items() if k not in MAY_DIFFER}
        for name in (cleaned("articles"), vectors_of("articles"))
        for point in client.scroll(name, limit=10_000)[0]
    }


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_a_long_document_writes_few_points_and_equals_a_fresh_sync(edit: str) -> None:
    edited, fresh = QdrantClient(":memory:"), QdrantClient(":memory:")
    counted: Any = CountedWrites(edited)
    twin = Twin(counted)
    assert twin.apply([article(TEXT)], "insert") > 150
    counted.points.clear()
    twin.apply([article(EDITS[edit])])
    assert 2 <= counted.points.total() <= MOST, counted.points
    Twin(fresh).apply([article(EDITS[edit])], "insert")
    assert stored(edited) == stored(fresh)


def test_a_write_that_is_not_counted_is_an_error() -> None:
    with pytest.raises(AttributeError, match="overwrite_payload is not counted"):
        CountedWrites(QdrantClient(":memory:")).overwrite_payload("posts", {}, [])
