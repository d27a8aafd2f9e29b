"""Every point of the store, as it is now."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from qdrant_client import QdrantClient

from connectors.patience import Patience
from connectors.qdrant.answers import explain, is_away
from connectors.qdrant.names import UNPREFIXED, Collections
from connectors.qdrant.scroll import scroll
from models.fresh import without_text
from models.stored import Key


def scan_points(
    client: QdrantClient, types: Iterable[str], collections: Collections = UNPREFIXED
) -> Iterator[tuple[Key, str, str, dict[str, Any]]]:
    """Every point of the store: (document, `record` or `chunk`, id, payload without its text, see
    `models.fresh`). A server that goes away meanwhile is waited for.
    """
    patience = Patience("Qdrant", is_away, explain=explain)
    for type_ in types:
        for kind, name in (
            ("record", collections.cleaned(type_)),
            ("chunk", collections.vectors(type_)),
        ):
            if patience.call(partial(client.collection_exists, name)):
                for point in scroll(client, name, call=patience.call):
                    payload = without_text(point.payload or {})
                    key = Key(type_, str(payload.get("entry_id")))
                    yield key, kind, str(point.id), payload
