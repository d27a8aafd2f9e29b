"""Reading a collection from its first point to its last, in pages that a server can deliver."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol, TypeVar

from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.conversions.common_types import PointId

from connectors.qdrant.answers import STORE_ERRORS, is_too_much, one_line

FIRST_PAGE: Final = 256
LARGEST_PAGE: Final = 1024
SWIFT_S: Final = 0.5
"""A page that came within this time is followed by one of twice its size. A request may take
twenty times as long, so a doubled page fails only where the points themselves grow as well."""

T = TypeVar("T")
Fields = bool | list[str] | q.PayloadSelectorInclude | q.PayloadSelectorExclude
"""Which fields of the payload are read."""

log = logging.getLogger("connectors")


class Call(Protocol):
    """How a request is made: once, or until a server that is away is back."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """The result of `function`."""
        ...


def scroll(
    client: QdrantClient,
    collection: str,
    only: q.Filter | None = None,
    *,
    fields: Fields = True,
    with_vectors: bool = False,
    call: Call = lambda function: function(),
) -> Iterator[q.Record]:
    """Every point of a collection, in the order of ids.

    A page that takes longer than a request may take, or that is larger than what the way to the
    server carries, is asked for again with a quarter of its points. Later pages grow back.

    :param only: the points that match
    :param call: makes each request
    :raises STORE_ERRORS: what `call` lets through, and what a page of one point meets
    """
    size = FIRST_PAGE
    offset: PointId | None = None
    while True:
        began = time.monotonic()
        read = partial(_page, client, collection, only, size, offset, fields, with_vectors)
        page = call(read)
        if page is None:
            size = max(1, size // 4)
            continue
        records, offset = page
        swift = time.monotonic() - began < SWIFT_S
        yield from records
        if offset is None:
            return
        size = min(LARGEST_PAGE, size * 2) if swift else size


def _page(
    client: QdrantClient,
    collection: str,
    only: q.Filter | None,
    size: int,
    offset: PointId | None,
    fields: Fields,
    with_vectors: bool,
) -> tuple[list[q.Record], PointId | None] | None:
    """A page and where the next one begins; None where fewer points are to be asked for."""
    try:
        return client.scroll(
            collection,
            only,
            limit=size,
            offset=offset,
            with_payload=fields,
            with_vectors=with_vectors,
        )
    except STORE_ERRORS as error:
        if size == 1 or not is_too_much(error):
            raise
        log.info("%s: a page of %d points is too much: %s", collection, size, one_line(error))
        return None
