"""The tools that are compared, each in its best documented mode for edits and deletes.

- LangChain: `index(cleanup="full")` with a record manager, the mode that its documentation gives
  for deletions; it is handed every document at each sync. `cleanup="incremental"` is measured
  beside it.
- LlamaIndex: `IngestionPipeline` with a document store, `UPSERTS_AND_DELETE` and its default cache;
  it is handed every document at each sync as well. Its embedding cache, which is off by default, is
  measured beside it.
- twinstream: the features flow, handed the one change.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final, Protocol
from uuid import UUID

from qdrant_client import QdrantClient
from qdrant_client import models as q

from benchmarks.documents import Document
from benchmarks.edits import Twin
from connectors.qdrant import vectors_of
from models import entry_id_of
from tests.hashing import HashingEmbedder

COLLECTION: Final = "peer"


class WatchedClient(QdrantClient):
    """Qdrant in memory that counts the points of one document after each write."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._count: Callable[[], int] | None = None
        self._counts: list[int] = []

    @contextmanager
    def watching(self, collection: str, only: q.Filter) -> Iterator[list[int]]:
        """The counts after each write within the block."""
        self._count = lambda: self.count(collection, only).count
        self._counts = []
        try:
            yield self._counts
        finally:
            self._count = None

    def upsert(self, *args: Any, **options: Any) -> Any:
        return self._sampled(super().upsert(*args, **options))

    def upload_points(self, *args: Any, **options: Any) -> Any:
        return self._sampled(super().upload_points(*args, **options))

    def delete(self, *args: Any, **options: Any) -> Any:
        return self._sampled(super().delete(*args, **options))

    def batch_update_points(self, *args: Any, **options: Any) -> Any:
        return self._sampled(super().batch_update_points(*args, **options))

    def _sampled(self, result: Any) -> Any:
        if self._count is not None:
            self._counts.append(self._count())
        return result


class Peer(Protocol):
    """A tool that keeps a vector store in step with documents."""

    client: WatchedClient
    embedder: HashingEmbedder

    def sync(self, documents: Sequence[Document]) -> None:
        """Bring the store to these documents, the way the tool recommends."""
        ...

    def place(self, document: Document) -> tuple[str, q.Filter]:
        """Collection and filter of a document's chunks."""
        ...

    def text(self, payload: Any) -> str:
        """Text of a point."""
        ...


class Twinstream:
    """The features flow: each change is one message."""

    def __init__(self) -> None:
        self.client = WatchedClient()
        self._twin = Twin(self.client)
        self.embedder = self._twin.embedder
        self._known: dict[str, Document] = {}

    def sync(self, documents: Sequence[Document]) -> None:
        now = {key_of(document): document for document in documents}
        changed = [document for key, document in now.items() if self._known.get(key) != document]
        gone = [document for key, document in self._known.items() if key not in now]
        if changed:
            self._twin.apply(changed)
        if gone:
            self._twin.apply([(name, {"_id": body["_id"]}) for name, body in gone], "delete")
        self._known = now

    def place(self, document: Document) -> tuple[str, q.Filter]:
        collection, body = document
        return vectors_of(collection), _matching("entry_id", entry_id_of(body["_id"]))

    def text(self, payload: Any) -> str:
        return str(payload["content"])


class LangChain:
    """`langchain_core.indexing.index` with a record manager.

    :param cleanup: its mode
    """

    def __init__(self, cleanup: Any = "full") -> None:
        from langchain_core.embeddings import Embeddings
        from langchain_core.indexing import InMemoryRecordManager
        from langchain_qdrant import QdrantVectorStore
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        self._cleanup = cleanup
        embedder = self.embedder = HashingEmbedder()

        class Counted(Embeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                vectors: list[list[float]] = embedder.encode(texts).tolist()
                return vectors

            def embed_query(self, text: str) -> list[float]:
                return self.embed_documents([text])[0]

        self.client = WatchedClient()
        self.client.create_collection(
            COLLECTION, q.VectorParams(size=embedder.dimension, distance=q.Distance.COSINE)
        )
        self._store = QdrantVectorStore(
            self.client, COLLECTION, Counted(), validate_collection_config=False
        )
        self._records = InMemoryRecordManager(COLLECTION)
        self._records.create_schema()
        self._splitter = RecursiveCharacterTextSplitter(
            chunk_size=embedder.max_tokens,
            chunk_overlap=0,
            length_function=lambda text: len(_tokens(embedder, text)),
        )

    def sync(self, documents: Sequence[Document]) -> None:
        from langchain_core.documents import Document as Text
        from langchain_core.indexing import index

        texts = [
            Text(text_of(document), metadata={"source": key_of(document)}) for document in documents
        ]
        index(
            self._splitter.split_documents(texts), self._records, self._store,
            cleanup=self._cleanup, source_id_key="source", key_encoder=_point_id,
        )  # fmt: skip

    def place(self, document: Document) -> tuple[str, q.Filter]:
        return COLLECTION, _matching("metadata.source", key_of(document))

    def text(self, payload: Any) -> str:
        return str(payload["page_content"])


class LlamaIndex:
    """`IngestionPipeline` with a document store and `UPSERTS_AND_DELETE`.

    :param embedding_cache: whether the embedder keeps every vector it has made, by text
    """

    def __init__(self, embedding_cache: bool = False) -> None:
        from llama_index.core.embeddings import BaseEmbedding
        from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
        from llama_index.core.node_parser import SentenceSplitter
        from llama_index.core.storage.docstore import SimpleDocumentStore
        from llama_index.core.storage.kvstore import SimpleKVStore
        from llama_index.vector_stores.qdrant import QdrantVectorStore

        embedder = self.embedder = HashingEmbedder()

        class Counted(BaseEmbedding):
            def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
                vectors: list[list[float]] = embedder.encode(texts).tolist()
                return vectors

            def _get_text_embedding(self, text: str) -> list[float]:
                return self._get_text_embeddings([text])[0]

            def _get_query_embedding(self, query: str) -> list[float]:
                return self._get_text_embedding(query)

            async def _aget_query_embedding(self, query: str) -> list[float]:
                return self._get_text_embedding(query)

        cache = SimpleKVStore() if embedding_cache else None
        self.client = WatchedClient()
        self._pipeline = IngestionPipeline(
            transformations=[
                SentenceSplitter(
                    chunk_size=embedder.max_tokens,
                    chunk_overlap=0,
                    tokenizer=lambda text: _tokens(embedder, text),
                ),
                Counted(embeddings_cache=cache),
            ],
            docstore=SimpleDocumentStore(),
            vector_store=QdrantVectorStore(COLLECTION, client=self.client),
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        )

    def sync(self, documents: Sequence[Document]) -> None:
        from llama_index.core import Document as Text

        self._pipeline.run(
            documents=[Text(text=text_of(document), id_=key_of(document)) for document in documents]
        )

    def place(self, document: Document) -> tuple[str, q.Filter]:
        return COLLECTION, _matching("ref_doc_id", key_of(document))

    def text(self, payload: Any) -> str:
        from llama_index.core.vector_stores.utils import metadata_dict_to_node

        return str(metadata_dict_to_node(payload).get_content())


def text_of(document: Document) -> str:
    content = document[1]["content"]
    if isinstance(content, str):
        return content
    return "\n\n".join(text for field, text in content.items() if text and field != "language")


def key_of(document: Document) -> str:
    collection, body = document
    return f"{collection}/{entry_id_of(body['_id'])}"


def _matching(field: str, value: str) -> q.Filter:
    return q.Filter(must=[q.FieldCondition(key=field, match=q.MatchValue(value=value))])


def _point_id(chunk: Any) -> str:
    """A key encoder: of source and text, in the form that Qdrant takes, which refuses the plain
    digests of the built-in ones but SHA-1's.
    """
    digest = sha256(f"{chunk.metadata['source']}\n{chunk.page_content}".encode()).digest()
    return str(UUID(bytes=digest[:16]))


def _tokens(embedder: HashingEmbedder, text: str) -> list[str]:
    tokens: list[str] = embedder.tokenizer.encode(text, add_special_tokens=False).tokens
    return tokens
