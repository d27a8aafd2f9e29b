"""The vector store, as far as the index step needs one."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from flows.embedding.embedder import Vectors
from models import Version
from models.plans import NewChunk, RefreshPlan, RemovalPlan, UpsertPlan
from models.sparse import SparseWeights
from models.stored import Key, Stored


class Store(Protocol):
    """The vector store, with a method for each step that reads or writes.

    Each call returns when its writes are applied, and waits for a store that is away.

    :raises ContentRefusedError: the store refuses a document
    :raises PointsGoneError: points to be updated do not exist
    """

    def read(self, keys: Sequence[Key], list_chunks: Collection[Key]) -> dict[Key, Stored]:
        """W1, W3: what is stored of each document; for those in `list_chunks` with all chunks."""
        ...

    def upsert_chunks(
        self, chunks: Sequence[NewChunk], vectors: Vectors, weights: Sequence[SparseWeights]
    ) -> None:
        """W2: write new chunks with their vectors: dense ones, of shape (len(chunks), dimension),
        and sparse ones.
        """
        ...

    def bury(self, removals: Sequence[RemovalPlan]) -> None:
        """F1: tombstones of what is removed; from here on nothing older can come back."""
        ...

    def update_chunks(self, upserts: Sequence[UpsertPlan]) -> None:
        """F2: payloads of kept chunks; no vector is touched."""
        ...

    def delete_chunks(self, chunks: Sequence[tuple[Key, str]]) -> None:
        """F3: chunks that are gone, by document and id."""
        ...

    def refresh_records(self, refreshes: Sequence[RefreshPlan]) -> None:
        """F4: the version of records where nothing else has changed."""
        ...

    def upsert_records(self, upserts: Sequence[UpsertPlan]) -> None:
        """F5: whole records. As long as one is missing or old, a repeated change does all again."""
        ...

    def delete_records(self, keys: Sequence[Key]) -> None:
        """F6: records of what is removed."""
        ...

    def hollow(self, named: Mapping[Key, Sequence[str]]) -> set[Key]:
        """Documents of which a chunk is missing, by the ids of those that each should have."""
        ...

    def live(self, type_: str, older_than: Version) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Records of a type whose version is at most `older_than`."""
        ...

    def fence_type(self, type_: str, version: Version) -> None:
        """Remember the drop of a whole collection."""
        ...

    def suspect(self, key: Key) -> None:
        """Mark the record of a document, see `models.stored.SUSPECT`."""
        ...
