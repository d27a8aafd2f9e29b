"""Retrievers of other libraries, as those libraries call them.

`ops/install.sh optional`, which .ci/run calls, brings the libraries.
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest
from qdrant_client import QdrantClient

from models import record_id
from retrieval.client import RetrievalClient
from retrieval.following import Searches
from retrieval.hits import Hit
from tests.unit.test_retrieval import HashingEmbedder, create, put

MISSING = "an optional library is not installed: ops/install.sh optional brings it"
MAY = "2024-05-01T00:00:00Z"


@pytest.fixture
def client() -> Iterator[RetrievalClient]:
    with closing(QdrantClient(":memory:")) as store:
        create(store, "posts")
        for number, text in enumerate(("ships sail", "ships carry trains", "whales")):
            put(
                store, "posts", number + 1, text, context="Sea", published_at="2024-05-01T00:00:00Z"
            )
        yield RetrievalClient(store, HashingEmbedder())


def found(client: RetrievalClient) -> list[Hit]:
    hits = client.search("ships", limit=2, min_score=0.1)
    assert len(hits) == 2
    return hits


METADATA = {
    *("score", "type", "entry_id", "author_id", "platform", "path", "context", "published_at"),
    *("dense", "sparse"),
}


def test_langchain_finds_what_the_client_finds(client: RetrievalClient) -> None:
    pytest.importorskip("langchain_core", reason=MISSING)
    from langchain_core.runnables import RunnableLambda

    from retrieval.langchain import TwinstreamRetriever

    retriever = TwinstreamRetriever(client=client, options={"limit": 2, "min_score": 0.1})
    documents = retriever.invoke("ships")
    assert [one.page_content for one in documents] == [hit.content for hit in found(client)]
    assert [one.id for one in documents] == [hit.id for hit in found(client)]
    assert documents[0].metadata.keys() == METADATA
    assert documents[0].metadata["score"] == found(client)[0].score
    assert asyncio.run(retriever.ainvoke("ships")) == documents
    both = retriever.batch(["ships", "ships"])
    assert [[one.id for one in some] for some in both] == [[one.id for one in documents]] * 2
    chain = retriever | RunnableLambda(lambda some: some[0].page_content)
    assert chain.invoke("ships") == documents[0].page_content
    assert TwinstreamRetriever(client=client).options == {}
    follows = TwinstreamRetriever(client=Searches(client._store, lambda _: HashingEmbedder()))
    assert follows.invoke("ships")[0].id == documents[0].id
    with pytest.raises(ValueError, match="the query is empty"):
        retriever.invoke(" ")


def test_llama_index_finds_what_the_client_finds(client: RetrievalClient) -> None:
    pytest.importorskip("llama_index.core", reason=MISSING)
    from llama_index.core.schema import MetadataMode

    from retrieval.llamaindex import TwinstreamRetriever

    retriever = TwinstreamRetriever(client, limit=2, min_score=0.1)
    nodes = retriever.retrieve("ships")
    assert [one.get_content() for one in nodes] == [hit.content for hit in found(client)]
    assert [one.score for one in nodes] == [hit.score for hit in found(client)]
    first = nodes[0].node
    assert first.node_id == found(client)[0].id
    assert first.metadata.keys() == METADATA
    assert first.ref_doc_id == record_id("posts", found(client)[0].entry_id)
    shown = first.get_content(metadata_mode=MetadataMode.LLM)
    assert "context: Sea" in shown
    assert "score" not in shown
    again = asyncio.run(retriever.aretrieve("ships"))
    assert [one.node_id for one in again] == [one.node_id for one in nodes]
    with pytest.raises(ValueError, match="the query is empty"):
        retriever.retrieve(" ")
