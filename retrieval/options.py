"""The options of a search: what is wanted, checked once, and as requests to a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol, TypedDict, runtime_checkable

from qdrant_client import models as q
from typing_extensions import Unpack

from connectors.qdrant import SPARSE_NAME, VECTOR_NAME
from models import DOCUMENT_TYPES
from models.sparse import SparseWeights
from models.timestamps import read_time
from retrieval.hits import Hit

Mode = Literal["hybrid", "dense", "sparse"]
MODES: Final[tuple[Mode, ...]] = ("hybrid", "dense", "sparse")

_FIELDS: Final = [
    *("type", "entry_id", "author_id", "platform", "link", "name", "path", "content", "context"),
    *("published_at", "updated_at", "language", "tags"),
]  # fmt: skip
_MOMENTS: Final = ("published_after", "published_before", "updated_after", "updated_before")
_SHALLOWEST: Final = 32
DEEPEST: Final = 1000
FARTHEST: Final = 10_000
"""Hits that a search looks for, at most; a server makes room for all that it is asked for."""
"""Of a list that is longer than the hits that are wanted: a server in strict mode has a limit."""


Moment = datetime | date | str
"""Without a zone in UTC; a day is its first moment; a text is in the form of ISO 8601."""


class Options(TypedDict, total=False):
    """The keyword arguments of a search; each has a default."""

    limit: int
    """Hits at most [5]."""
    offset: int
    """Hits to leave out at the beginning, for the next page [0]."""
    mode: Mode
    """`hybrid` fuses meaning and words; `dense` goes by meaning, `sparse` by words [hybrid]."""
    types: Sequence[str]
    """Document types [all]."""
    author_id: str | None
    platform: str | None
    entry_id: str | None
    path: str | None
    """File in a repository, or field of the content."""
    language: str | None
    """As the document says it, in small letters."""
    tag: str | None
    """One of the document's tags."""
    published_after: Moment | None
    """At this moment or later; a document without the date is in no range."""
    published_before: Moment | None
    """Before this moment."""
    updated_after: Moment | None
    updated_before: Moment | None
    only: q.Filter | None
    """Any filter of Qdrant on the payloads of chunks, besides those above."""
    min_score: float | None
    """Leave out hits of a lower `Hit.score`, which means another thing in each mode."""
    per_document: int | None
    """Hits of one document at most [any number]."""
    diversity: float | None
    """From 0 to 1: how much a hit loses by being like those before it [0], see `diverse`. Told
    by vectors: a search by words then leaves out chunks of other models, too."""
    rerank: bool | None
    """Let the client's cross-encoder decide [if it has one]; `Hit.score` is its score then."""
    candidates: int
    """Hits of which `diversity` and `rerank` choose: offset and limit cannot reach beyond [50]."""


@runtime_checkable
class Searcher(Protocol):
    """A `RetrievalClient`, or `retrieval.following.Searches`, which follows a migration."""

    def search(self, query: str, **options: Unpack[Options]) -> list[Hit]:
        """See `RetrievalClient.search`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of a search, with their defaults.

    :raises ValueError: they make no sense
    """

    limit: int = 5
    offset: int = 0
    mode: Mode = "hybrid"
    types: Sequence[str] = ()
    author_id: str | None = None
    platform: str | None = None
    entry_id: str | None = None
    path: str | None = None
    language: str | None = None
    tag: str | None = None
    published_after: Moment | None = None
    published_before: Moment | None = None
    updated_after: Moment | None = None
    updated_before: Moment | None = None
    only: q.Filter | None = None
    min_score: float | None = None
    per_document: int | None = None
    diversity: float | None = None
    rerank: bool | None = None
    candidates: int = 50

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("offset", 0), ("per_document", 1), ("candidates", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}")
        if (most := max(self.end, self.reach)) > FARTHEST:
            raise ValueError(
                f"offset + limit, and candidates, must be {FARTHEST:,} or less, not {most:,}"
            )
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}; known are {', '.join(MODES)}")
        if unknown := sorted(set(self.types) - set(DOCUMENT_TYPES)):
            known = ", ".join(DOCUMENT_TYPES)
            raise ValueError(f"unknown document type {unknown[0]!r}; known are {known}")
        if self.diversity is not None and not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity must be from 0 to 1, not {self.diversity}")
        if self._chooses and self.end > self.candidates:
            raise ValueError(
                f"offset + limit is {self.end}, and diversity and re-ranking choose of "
                f"{self.candidates} candidates: raise candidates"
            )
        for name in _MOMENTS:
            value = getattr(self, name)
            if value is not None and read_time(value) is None:
                raise ValueError(f"{name} must be a date, as in 2026-05-31, not {value!r:.80}")

    @property
    def end(self) -> int:
        """Hits up to the end of the page."""
        return self.offset + self.limit

    @property
    def _chooses(self) -> bool:
        return bool(self.rerank or self.diversity)

    @property
    def reach(self) -> int:
        """Hits that are looked for, of which the page is chosen."""
        return self.candidates if self._chooses else self.end

    @property
    def least(self) -> float | None:
        """The least score of these hits."""
        return None if self.rerank else self.min_score

    @property
    def depth(self) -> int:
        """Of each list that is asked for.

        A chunk that is in neither of two lists of this depth is not among the best of endless ones
        either: by one list alone, as many others score 1 / (k + reach - 1) or more. It grows by
        doubling: a chunk that is in one of two lists may rise where they are longer, so the pages
        up to the 15th, 31st, 63rd … hit are of the same lists, and follow each other.
        """
        if self.mode != "hybrid":
            return self.reach
        depth = _SHALLOWEST
        while depth < min(2 * self.reach + 2, DEEPEST):
            depth *= 2
        return max(self.reach, min(depth, DEEPEST))

    def filter(self, models: Sequence[str]) -> q.Filter | None:
        """The chunks that are searched.

        :param models: names of the model; none if it does not matter
        """
        must: list[q.Condition] = []
        if models:
            must.append(q.FieldCondition(key="model", match=q.MatchAny(any=list(models))))
        for name in ("author_id", "platform", "entry_id", "path", "language", "tag"):
            value = getattr(self, name)
            if value is not None:
                key = "tags" if name == "tag" else name
                must.append(q.FieldCondition(key=key, match=q.MatchValue(value=value)))
        for name in ("published", "updated"):
            after = read_time(getattr(self, f"{name}_after"))
            before = read_time(getattr(self, f"{name}_before"))
            if after or before:
                between = q.DatetimeRange(gte=after, lt=before)
                must.append(q.FieldCondition(key=f"{name}_at", range=between))
        if self.only is not None:
            must.append(self.only)
        return q.Filter(must=must) if must else None

    def dense(self, vector: Any, only: q.Filter | None, depth: int) -> q.QueryRequest:
        """The request for the nearest chunks by meaning."""
        return self._request(vector.tolist(), VECTOR_NAME, only, depth)

    def sparse(self, weights: SparseWeights, only: q.Filter | None, depth: int) -> q.QueryRequest:
        """The request for the nearest chunks by words."""
        vector = q.SparseVector(indices=list(weights.indices), values=list(weights.values))
        return self._request(vector, SPARSE_NAME, only, depth)

    def _request(self, vector: Any, name: str, only: q.Filter | None, depth: int) -> q.QueryRequest:
        return q.QueryRequest(
            query=vector,
            using=name,
            filter=only,
            limit=depth,
            with_payload=q.PayloadSelectorInclude(include=_FIELDS),
            score_threshold=self.least if self.mode != "hybrid" else None,
        )
