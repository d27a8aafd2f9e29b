"""Searches that follow a migration: by the model that the store is searched by at this moment."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from qdrant_client import QdrantClient
from typing_extensions import Unpack

from connectors.qdrant import STORE_ERRORS, UNPREFIXED, Collections, read_places
from flows.embedding.embedder import TextEmbedder
from flows.embedding.reranker import PairScorer
from models.errors import OtherModelError
from models.places import FIRST, Place, Places
from retrieval.client import RetrievalClient
from retrieval.hits import Hit
from retrieval.options import Options

LOOK_EVERY_S: Final = 0.25
"""How old the answer may be to the question which model is searched."""

log = logging.getLogger("retrieval")


class Searches:
    """Gives for each search a client of one model, which is that of the store.

    After a switch, the next client is of the new model. While that is loaded, searches go on by the
    old one, whose place is written until it is removed. A former model stays loaded as long as its
    place is there, so a rollback waits for nothing. Thread-safe.

    :param embedder_of: loads the model of a place; one that was never migrated is given as None
    :param collections: names of the collections, where they have a prefix
    :param reranker: as for `RetrievalClient`
    """

    def __init__(
        self,
        store: QdrantClient,
        embedder_of: Callable[[Place | None], TextEmbedder],
        collections: Collections = UNPREFIXED,
        reranker: PairScorer | None = None,
    ) -> None:
        self._reranker = reranker
        self._store = store
        self._embedder_of = embedder_of
        self._names = collections
        self._lock = threading.RLock()
        self._clients: dict[str, RetrievalClient] = {}
        self._current: str | None = None
        self._loading: threading.Thread | None = None
        self._places: Places | None = None
        self._failure: Exception | None = None
        self._read_at = float("-inf")

    def search(self, query: str, **options: Unpack[Options]) -> list[Hit]:
        """As `RetrievalClient.search`; also where a model is removed meanwhile.

        :raises OtherModelError: the model of the store cannot be used here
        """
        client = self.client()
        try:
            return client.search(query, **options)
        except (OtherModelError, *STORE_ERRORS):
            # Its collections may have gone amid the search.
            self._read_at = float("-inf")
            if (again := self.client()) is client:
                raise
            return again.search(query, **options)

    def client(self) -> RetrievalClient:
        """A client of the model of this moment. Take one for each search; with its hits, go on
        with the same one.

        :raises OtherModelError: the model of the store cannot be used here
        :raises STORE_ERRORS: the server does not answer, or refuses
        """
        with self._lock:
            places = self._stated()
            place = places.searched if places else None
            wanted = place.id if place else FIRST
            if wanted not in self._clients:
                current = self._current
                if places and current is not None and places.has(current):
                    self._load_meanwhile(place)
                    return self._clients[current]
                self._load(place)
            self._current = wanted
            self._clients = {
                id_: client
                for id_, client in self._clients.items()
                if id_ == wanted or (places and places.has(id_))
            }
            return self._clients[wanted]

    def _stated(self) -> Places | None:
        if time.monotonic() - self._read_at > LOOK_EVERY_S:
            try:
                self._places, self._failure = read_places(self._store, self._names), None
            except STORE_ERRORS as error:
                # Told to all who have waited for it, too, who would else wait as long in a row.
                self._failure = error
            self._read_at = time.monotonic()
        if self._failure is not None:
            raise self._failure
        return self._places

    def _load(self, place: Place | None, *, whole: bool = False) -> None:
        try:
            embedder = self._embedder_of(place)
            if whole:  # else the first query by meaning does it
                embedder.encode([""])
        except Exception as error:
            if place is None:
                raise
            raise OtherModelError(
                f"the store was migrated to {place.model}, which cannot be used here: {error}"
            ) from error
        id_ = place.id if place else FIRST
        client = RetrievalClient(self._store, embedder, self._names.at(id_), self._reranker)
        with self._lock:
            self._clients = {**self._clients, id_: client}

    def _load_meanwhile(self, place: Place | None) -> None:
        def load() -> None:
            try:
                self._load(place, whole=True)
            except OtherModelError as error:
                log.warning("%s; searches go on by the former model while it is there", error)
                time.sleep(10.0)

        if self._loading is None or not self._loading.is_alive():
            self._loading = threading.Thread(target=load, daemon=True, name="load the next model")
            self._loading.start()
