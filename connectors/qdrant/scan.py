"""Every point of the store, as it is now."""

from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any

from qdrant_client import QdrantClient

from connectors.patience import Patience
from connectors.qdrant.client import is_away
from connectors.qdrant.names import UNPREFIXED, Collections
from connectors.qdrant.scroll import scroll
from models.stored import Key


def scan_points(
    client: QdrantClient, types: Iterable[str], collections: Collections = UNPREFIXED
) -> Iterator[tuple[Key, str, str, dict[str, Any]]]:
    """Every point of the store: (document, `record` or `chunk`, id, payload with `text_hash`
    in the place of its text). A server that goes away meanwhile is waited for.
    """
    patience = Patience("Qdrant", is_away)
    for type_ in types:
        for kind, name in (
            ("record", collections.cleaned(type_)),
            ("chunk", collections.vectors(type_)),
        ):
            if patience.call(partial(client.collection_exists, name)):
                for point in scroll(client, name, call=patience.call):
                    payload = _without_text(dict(point.payload or {}))
                    key = Key(type_, str(payload.get("entry_id")))
                    yield key, kind, str(point.id), payload


def _without_text(payload: dict[str, Any]) -> dict[str, Any]:
    text = payload.pop("content", None) or payload.pop("cleaned_content", None) or ""
    return {**payload, "text_hash": sha256(str(text).encode()).hexdigest()}
