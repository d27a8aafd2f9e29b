"""The retrieval client for programs that run on asyncio."""

import asyncio
from collections.abc import Sequence

from typing_extensions import Unpack

from retrieval.client import RetrievalClient
from retrieval.hits import Context, Hit, Place
from retrieval.options import Options


class AsyncRetrievalClient:
    """The methods of a `RetrievalClient`, to be awaited; each runs in a thread of its own.

    Embedding a query keeps a processor busy, so this is not slower than waiting for the requests
    on the loop, and the loop stays free.
    """

    def __init__(self, client: RetrievalClient) -> None:
        self._client = client

    async def search(self, query: str, **options: Unpack[Options]) -> list[Hit]:
        """See `RetrievalClient.search`."""
        return await asyncio.to_thread(self._client.search, query, **options)

    async def search_many(
        self, queries: Sequence[str], **options: Unpack[Options]
    ) -> list[list[Hit]]:
        """See `RetrievalClient.search_many`."""
        return await asyncio.to_thread(self._client.search_many, queries, **options)

    async def places(self, hits: Sequence[Hit]) -> list[Place | None]:
        """See `RetrievalClient.places`."""
        return await asyncio.to_thread(self._client.places, hits)

    async def contexts(
        self, hits: Sequence[Hit], *, before: int = 1, after: int = 1
    ) -> list[Context | None]:
        """See `RetrievalClient.contexts`."""
        return await asyncio.to_thread(self._client.contexts, hits, before=before, after=after)

    async def documents(self, hits: Sequence[Hit]) -> list[str | None]:
        """See `RetrievalClient.documents`."""
        return await asyncio.to_thread(self._client.documents, hits)
