"""A retriever for LlamaIndex; `pip install '.[llama-index]'` brings what it needs."""

import asyncio
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import (
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from typing_extensions import Unpack, override

from models import record_id
from retrieval.hits import Hit, metadata_of
from retrieval.options import Options, Searcher


class TwinstreamRetriever(BaseRetriever):
    """Searches the feature store: `TwinstreamRetriever(client, limit=8)`.

    A node is a chunk; its id is that of the point, its source the document's record, and its
    metadata are the fields of the hit that have a value. A model is shown the text, and of the
    metadata only `name`, `path` and `context`.

    Raises:
        As `RetrievalClient.search`.
    """

    def __init__(self, client: Searcher, **options: Unpack[Options]) -> None:
        super().__init__()
        self._client = client
        self._options = options

    @override
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(map(_node, self._client.search(query_bundle.query_str, **self._options)))

    @override
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        search = self._client.search
        hits = await asyncio.to_thread(search, query_bundle.query_str, **self._options)
        return list(map(_node, hits))


def _node(hit: Hit) -> NodeWithScore:
    metadata: dict[str, Any] = metadata_of(hit)
    hidden = [name for name in metadata if name not in ("name", "path", "context")]
    source = RelatedNodeInfo(node_id=record_id(hit.type, hit.entry_id))
    node = TextNode(
        id_=hit.id,
        text=hit.content,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
        relationships={NodeRelationship.SOURCE: source},
    )
    return NodeWithScore(node=node, score=hit.score)
