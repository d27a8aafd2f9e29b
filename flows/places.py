"""The places of a store in the features flow: every change goes to each place that is written.

Each batch asks, when it has come, which places there are, and is acknowledged when it is in all of
them. So a migration has no gap: a change that went to the old place alone was in MongoDB before
that question, the question came before the new place was stated, and the backfill of the new place
reads MongoDB after that. Everything later goes to both places, and each has fences and tombstones
of its own. The place that a process was started for is written while it asks.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from qdrant_client import QdrantClient

from connectors.patience import Backoff, Patience
from connectors.qdrant import STORE_ERRORS, QdrantStore, Statement, read_places
from connectors.rabbitmq import queue_names
from flows.embedding.embedder import ChunkingEmbedder, Embedder, locate_model
from flows.operators.index import Indexer
from flows.operators.prepare import chunk, dead_at, retract
from flows.operators.write import Indexed
from flows.settings import Settings
from flows.text.bounded import BoundedText
from models import DOCUMENT_TYPES, DeadLetter
from models.errors import PlaceGoneError, UnusableModelError
from models.places import Place, Places
from models.prepared import Cleaned, CleanedChange, Prepared, Upsert

log = logging.getLogger("flows")

EmbedderOf = Callable[[str], ChunkingEmbedder]
"""The embedder of an EMBEDDING_MODEL."""

_NO_MODEL: Final = (UnusableModelError, OSError)


def embedders(settings: Settings) -> EmbedderOf:
    """Models on the device, and in the precision, that the settings name."""

    def of(model: str) -> ChunkingEmbedder:
        return Embedder(model, settings.embedding_device, settings.embedding_precision)

    return of


def setting_of(place: Place, settings: Settings) -> str:
    """The EMBEDDING_MODEL of a place: that of the settings, if it is of the same name, since a
    folder may be elsewhere on each machine.
    """
    own = settings.embedding_model
    return own if locate_model(own)[1] == place.model else place.setting


def is_for(change: Prepared, place: str) -> bool:
    """Whether a change is for a place: most are for all."""
    return change.event.place in (None, place)


@dataclass(frozen=True, slots=True)
class _Open:
    text: BoundedText
    cut: Callable[[CleanedChange], Prepared]
    store: QdrantStore
    indexer: Indexer


class OtherPlaces:
    """The places beside the one that a process has been started for.

    Thread-safe. A model that cannot be loaded here is waited for, like a store that is away, until
    it can be, or its place is removed.

    :param names: every place has its own
    """

    def __init__(self, client: QdrantClient, settings: Settings, embedder_of: EmbedderOf) -> None:
        self._client = client
        self._settings = settings
        self._names = settings.qdrant.collections
        self._embedder_of = embedder_of
        self._statement = Statement(client, self._names)
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def stated(self) -> Places | None:
        """The places of this moment; None where the store was never migrated."""
        return self._statement.read()

    def is_removed(self, place: str) -> bool:
        """Whether the collections of a place may be missing."""
        try:
            places = read_places(self._client, self._names)
        except STORE_ERRORS:
            return False
        return places is not None and places.lacks(place)

    def forget(self, place: str) -> None:
        """Delete the collections of a place again, if it was removed before they were made."""
        if self.is_removed(place):
            self._statement.remove_collections(place, DOCUMENT_TYPES)

    def load(self, place: Place) -> None:
        """Load the model of a place."""
        self._opened(place)

    def apply(self, place: Place, batch: Sequence[Prepared]) -> list[Indexed | DeadLetter]:
        """Index a batch, cut for the model of a place. Nothing, if it is removed meanwhile."""
        opened = self._opened(place)
        if opened is None:
            return []
        letters: list[DeadLetter] = []
        try:
            return [*opened.indexer(list(self._cut(place, opened, batch, letters))), *letters]
        except PlaceGoneError:
            return []

    def prune(self, deleted_before: float) -> None:
        """Forget old tombstones of all open places."""
        for opened in self._all():
            opened.store.prune_tombstones(deleted_before)

    def keep(self, places: Places) -> None:
        """Let go of the models whose places are not written any more."""
        with self._lock:
            gone = [id_ for id_ in self._open if not places.has(id_)]
            closed = [self._open.pop(id_) for id_ in gone]
        for opened in closed:
            opened.text.close()

    def close(self) -> None:
        """End the processes that work on texts."""
        for opened in self._all():
            opened.text.close()

    def _all(self) -> list[_Open]:
        with self._lock:
            return list(self._open.values())

    def _cut(
        self, place: Place, opened: _Open, batch: Sequence[Prepared], letters: list[DeadLetter]
    ) -> Iterator[Prepared]:
        for change in batch:
            if not is_for(change, place.id):
                continue
            if not isinstance(change, Upsert):
                yield change
                continue
            try:
                yield opened.cut(Cleaned(change.delivery, change.event, change.document))
            except Exception as error:  # noqa: BLE001 (as `attempt` takes any as the document's fault)
                letters.append(dead_at("chunk")(change, error))
                removal = retract(change)
                if removal is not None:
                    yield removal

    def _opened(self, place: Place) -> _Open | None:
        with self._lock:
            if place.id not in self._open:
                embedder = self._loaded(place)
                if embedder is None:
                    return None
                self._open[place.id] = self._made(place, embedder)
                log.info("every change goes to %s, too", place.model)
            return self._open[place.id]

    def _loaded(self, place: Place) -> ChunkingEmbedder | None:
        patience = Patience(f"the model {place.model}", lambda _: True)
        backoff = Backoff(1.0, 10.0)
        while True:
            try:
                embedder = self._embedder_of(setting_of(place, self._settings))
                embedder.dimension  # noqa: B018 (loads it)
            except _NO_MODEL as error:
                patience.away(error)
                time.sleep(backoff.next())
                if self.is_removed(place.id):
                    return None
            else:
                patience.back()
                return embedder

    def _made(self, place: Place, embedder: ChunkingEmbedder) -> _Open:
        names = self._names.at(place.id)
        store = QdrantStore(self._client, DOCUMENT_TYPES, names, lambda: self.is_removed(place.id))
        text = BoundedText(lambda: (embedder.tokenizer, embedder.max_tokens))
        queues = queue_names(self._settings.queue, self._settings.partitions)
        return _Open(
            text,
            chunk(lambda: text, self._settings.max_chunks),
            store,
            Indexer(store, embedder, queues),
        )
