"""The statement of which models the store is kept for: the one point of the collection `models`.

A store that was never migrated has no such collection. See `models.places`.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.patience import Patience
from connectors.qdrant.answers import STORE_ERRORS, explain, is_away
from connectors.qdrant.names import Collections
from models.places import Places

_POINT: Final = str(UUID(int=1))

log = logging.getLogger("connectors")


class Statement:
    """Reads and replaces the statement; each request waits for a store that is away.

    :raises ConfigurationError: by each method, for a statement of another release
    """

    def __init__(self, client: QdrantClient, names: Collections) -> None:
        self._client = client
        self._names = names
        self._patience = Patience("Qdrant", is_away, explain=explain)

    def read(self) -> Places | None:
        """The places of the store; None where it was never migrated."""
        return self._patience.call(lambda: read_places(self._client, self._names))

    def change(self, transition: Callable[[Places | None], Places]) -> Places:
        """Replace it by what `transition` makes of it; nothing is written if that is the same.

        One command at a time: of two that run at the same moment, the later one wins.
        """
        before = self.read()
        after = transition(before)
        if after != before:
            self._patience.call(lambda: self._write(after))
        return after

    def remove_collections(self, place: str, types: Iterable[str]) -> None:
        """Delete the collections of a place, as far as they are there."""
        names = self._names.at(place)
        for name in (
            *(of(type_) for type_ in types for of in (names.vectors, names.cleaned)),
            names.tombstones,
        ):
            self._patience.call(lambda name=name: self._drop(name))  # type: ignore[misc]  # mypy knows no type of a default

    def _drop(self, name: str) -> None:
        if self._client.collection_exists(name):
            self._client.delete_collection(name)
            log.info("%s is removed", name)

    def _write(self, places: Places) -> None:
        name = self._names.models
        if not self._client.collection_exists(name):
            try:
                self._client.create_collection(name, vectors_config={})
            except (ValueError, *STORE_ERRORS):
                if not self._client.collection_exists(name):  # another process was faster
                    raise
        point = q.PointStruct(id=_POINT, vector={}, payload=places.fields())
        self._client.upsert(name, [point], wait=True)


def read_places(client: QdrantClient, names: Collections) -> Places | None:
    """The places of the store; None where it was never migrated.

    :raises STORE_ERRORS: the server does not answer, or refuses
    :raises ConfigurationError: they were stated by another release
    """
    if not client.collection_exists(names.models):
        return None
    found = client.retrieve(names.models, [_POINT], with_payload=True)
    return Places.read(found[0].payload or {}) if found else None


def searched_collections(client: QdrantClient, names: Collections) -> Collections:
    """The names of the collections that are searched.

    :raises STORE_ERRORS: the server does not answer, or refuses
    """
    places = read_places(client, names)
    return names if places is None else names.at(places.active)
