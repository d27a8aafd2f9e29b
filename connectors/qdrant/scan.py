"""Every point of the store, as it is now."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.patience import Patience
from connectors.qdrant.answers import STORE_ERRORS, explain, is_away, is_missing_collection
from connectors.qdrant.names import UNPREFIXED, Collections
from connectors.qdrant.scroll import scroll
from models.errors import PlaceGoneError
from models.fresh import without_text
from models.identity import record_id
from models.stored import Key

_UNREAD: Final = ["cleaned_content"]
_WITHOUT_TEXT: Final = q.PayloadSelectorExclude(exclude=_UNREAD)

T = TypeVar("T")

ScannedPoint = tuple[Key, str, str, dict[str, Any]]
"""The document, `record` or `chunk`, the point's id, and its payload without its text."""


def scan_points(
    client: QdrantClient,
    types: Iterable[str],
    collections: Collections = UNPREFIXED,
    removed: Callable[[], bool] = lambda: False,
) -> Iterator[ScannedPoint]:
    """Every point of the store. A server that goes away meanwhile is waited for.

    The text of a record, which may be of megabytes, is not read: its hash stands for it. That of a
    chunk is, since an answer quotes it.

    :param removed: asked where a collection is missing: whether its place was removed
    :raises PlaceGoneError: it was
    """
    ask = _Ask(client, removed)
    for type_ in types:
        records, chunks = collections.cleaned(type_), collections.vectors(type_)
        if ask.exists(records):
            for point in scroll(client, records, fields=_WITHOUT_TEXT, call=ask):
                yield _key(type_, point), "record", *_record(point)
        if ask.exists(chunks):
            for point in scroll(client, chunks, call=ask):
                yield _key(type_, point), "chunk", *_chunk(point)


def points_of(
    client: QdrantClient,
    keys: Collection[Key],
    collections: Collections = UNPREFIXED,
    removed: Callable[[], bool] = lambda: False,
) -> Iterator[ScannedPoint]:
    """Every point of some documents, as `scan_points` gives them.

    :param keys: some dozens
    """
    ask = _Ask(client, removed)
    for type_ in {key.type for key in keys}:
        some = [key for key in keys if key.type == type_]
        records, chunks = collections.cleaned(type_), collections.vectors(type_)
        if ask.exists(records):
            by_id = {record_id(*key): key for key in some}
            read = partial(client.retrieve, records, list(by_id), with_payload=_WITHOUT_TEXT)
            for point in ask(read):
                yield by_id[str(point.id)], "record", *_record(point)
        if ask.exists(chunks):
            any_of = q.MatchAny(any=[key.entry_id for key in some])
            only = q.Filter(must=[q.FieldCondition(key="entry_id", match=any_of)])
            for point in scroll(client, chunks, only, call=ask):
                yield _key(type_, point), "chunk", *_chunk(point)


class _Ask:
    """Makes requests until they are answered, or the place that they are about is removed."""

    def __init__(self, client: QdrantClient, removed: Callable[[], bool]) -> None:
        self._client = client
        self._removed = removed
        self._patience = Patience("Qdrant", is_away, explain=explain)

    def __call__(self, request: Callable[[], T], /) -> T:
        def once() -> T:
            try:
                return request()
            except STORE_ERRORS as error:
                if is_missing_collection(error):
                    self._check()
                raise

        return self._patience.call(once)

    def exists(self, collection: str) -> bool:
        exists = self(partial(self._client.collection_exists, collection))
        if not exists:
            self._check()
        return exists

    def _check(self) -> None:
        if self._removed():
            raise PlaceGoneError("its collections were removed")


def estimated_points(
    client: QdrantClient, types: Iterable[str], collections: Collections = UNPREFIXED
) -> int:
    """About how many points `scan_points` will find."""
    names = [name(type_) for type_ in types for name in (collections.cleaned, collections.vectors)]
    there = [name for name in names if client.collection_exists(name)]
    return sum(client.count(name, exact=False).count for name in there)


def _key(type_: str, point: q.Record) -> Key:
    return Key(type_, str((point.payload or {}).get("entry_id")))


def _record(point: q.Record) -> tuple[str, dict[str, Any]]:
    return str(point.id), without_text(point.payload or {}, _UNREAD)


def _chunk(point: q.Record) -> tuple[str, dict[str, Any]]:
    return str(point.id), without_text(point.payload or {})
