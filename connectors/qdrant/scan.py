"""Every point of the store, as it is now."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.patience import Patience
from connectors.qdrant.answers import explain, is_away
from connectors.qdrant.names import UNPREFIXED, Collections
from connectors.qdrant.scroll import scroll
from models.fresh import without_text
from models.stored import Key

ScannedPoint = tuple[Key, str, str, dict[str, Any]]
"""The document, `record` or `chunk`, the point's id, and its payload without its text."""


def scan_points(
    client: QdrantClient, types: Iterable[str], collections: Collections = UNPREFIXED
) -> Iterator[ScannedPoint]:
    """Every point of the store. A server that goes away meanwhile is waited for.

    The text of a record, which may be of megabytes, is not read: its hash stands for it. That of a
    chunk is, since an answer quotes it.
    """
    patience = Patience("Qdrant", is_away, explain=explain)
    for type_ in types:
        for kind, name, unread in (
            ("record", collections.cleaned(type_), ["cleaned_content"]),
            ("chunk", collections.vectors(type_), []),
        ):
            if patience.call(partial(client.collection_exists, name)):
                fields = q.PayloadSelectorExclude(exclude=unread) if unread else True
                for point in scroll(client, name, fields=fields, call=patience.call):
                    payload = without_text(point.payload or {}, unread)
                    key = Key(type_, str(payload.get("entry_id")))
                    yield key, kind, str(point.id), payload
