"""A retriever for LangChain; `pip install '.[langchain]'` brings what it needs."""

import asyncio
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from typing_extensions import override

from retrieval.hits import Hit, metadata_of
from retrieval.options import Searcher


class TwinstreamRetriever(BaseRetriever):
    """Searches the feature store: `TwinstreamRetriever(client=client, options={"limit": 8})`.

    A document is a chunk; its `id` is that of the point, and its metadata are the fields of the
    hit that have a value.

    Raises:
        As `RetrievalClient.search`.
    """

    client: Searcher
    options: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies the default of a field)
    """Of each search, see `retrieval.options.Options`."""

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return list(map(_document, self.client.search(query, **self.options)))

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        hits = await asyncio.to_thread(self.client.search, query, **self.options)
        return list(map(_document, hits))


def _document(hit: Hit) -> Document:
    return Document(page_content=hit.content, metadata=metadata_of(hit), id=hit.id)
