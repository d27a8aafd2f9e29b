"""Model and store of a features process, in every place that is written."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from qdrant_client import QdrantClient

from connectors.ahead import meanwhile
from connectors.qdrant import QdrantStore, open_patiently
from connectors.rabbitmq import queue_names
from flows.embedding.embedder import ChunkingEmbedder, lazily, locate_model
from flows.embedding.precision import names_of_the_model
from flows.operators.index import Indexer
from flows.operators.write import Indexed
from flows.places import EmbedderOf, OtherPlaces, embedders, is_for, setting_of
from flows.settings import Settings
from flows.text.bounded import BoundedText
from models import DOCUMENT_TYPES, DeadLetter
from models.errors import PlaceGoneError
from models.events import Receipt
from models.metrics import totals
from models.places import FIRST, Places
from models.prepared import Prepared

log = logging.getLogger("flows")

PRUNE_EVERY_S = 3600.0


class ModelAndStore:
    """Model and store of one process, opened when the flow starts and not when it is built.

    The model is that of the place which is searched at the start: while a store is migrated, the
    other place is written as well, see `flows.places`.

    :param settings: names the store, and the model of one that was never migrated
    :param embedder: instead of the model that the settings name
    :param text: instead of the usual bound on the work on texts
    :param embedder_of: instead of the models that a migration names
    """

    def __init__(
        self,
        settings: Settings,
        embedder: ChunkingEmbedder | None = None,
        text: BoundedText | None = None,
        embedder_of: EmbedderOf | None = None,
    ) -> None:
        self._settings = settings
        self._embedder_of = embedder_of or embedders(settings)
        self._given = embedder
        self._others: OtherPlaces | None = None
        self._client = lazily(self._connect)
        self._home = lazily(self._find_home)
        self.text = text or BoundedText(lambda: (self.embedder.tokenizer, self.embedder.max_tokens))
        self.indexer = lazily(self._indexer)
        self.store = lazily(self._open)
        self._home_gone = False
        self._prune_at = 0.0

    @property
    def embedder(self) -> ChunkingEmbedder:
        """The model of this process."""
        return self._home()[1]

    def _connect(self) -> QdrantClient:
        client = open_patiently(self._settings.qdrant)
        self._others = OtherPlaces(client, self._settings, self._embedder_of)
        return client

    def _places(self) -> Places | None:
        return self._others.stated() if self._others else None

    def _find_home(self) -> tuple[str, ChunkingEmbedder]:
        """The place that is searched now, and its model."""
        settings, given = self._settings, self._given
        self._client()
        places = self._places()
        if places is None:
            return FIRST, given or self._embedder_of(settings.embedding_model)
        place = places.searched
        if given is not None and place.model in names_of_the_model(given.name):
            return place.id, given
        own = locate_model(settings.embedding_model)[1]
        if own not in [one.model for one in places.places]:
            log.warning(
                "EMBEDDING_MODEL names %s, but the store was migrated to %s, which is used: see "
                "python -m flows.migrate status",
                own, place.model,
            )  # fmt: skip
        return place.id, self._embedder_of(setting_of(place, settings))

    def _open(self) -> QdrantStore:
        settings = self._settings
        client, (home, _) = self._client(), self._home()
        names = settings.qdrant.collections.at(home)
        store = QdrantStore(client, DOCUMENT_TYPES, names, self._is_removed)
        store.claim(settings.owner)
        store.ensure_collections(self.embedder.dimension)
        if self._others is not None:
            self._others.forget(home)  # if it was removed while the model was loaded
        _say_what_searches_miss(store.chunks_by_model(), self.embedder.name)
        return store

    def _is_removed(self) -> bool:
        return self._others is not None and self._others.is_removed(self._home()[0])

    def _indexer(self) -> Indexer:
        queues = queue_names(self._settings.queue, self._settings.partitions)
        return Indexer(self.store(), self.embedder, queues=queues)

    def load(self) -> None:
        """Load the model and open the store, before the first message is consumed: a process that
        dies of either counts no delivery.
        """
        self.text.load()
        self.indexer()
        if self._others and (places := self._places()):
            for place in places.written:
                if place.id != self._home()[0]:
                    self._others.load(place)

    def __call__(self, batch: list[Prepared]) -> list[Indexed | DeadLetter]:
        """Index a batch in every place; now and then, forget old tombstones before it."""
        indexer, others, home = self.indexer(), self._others, self._home()[0]
        asked = meanwhile(self._places)  # now that the batch has come, see `flows.places`
        if time.monotonic() > self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY_S
            before = time.time() - self._settings.tombstone_retention_days * 86400
            self.store().prune_tombstones(before)
            if others:
                others.prune(before)
        results: list[Indexed | DeadLetter] = []
        if not self._home_gone:
            with suppress(PlaceGoneError):
                results += indexer([change for change in batch if is_for(change, home)])
        places = asked()
        if others is None or places is None:
            return results
        self._home_gone = places.lacks(home)  # for good: no id of a place is used again
        others.keep(places)
        for place in places.written:
            if place.id != home:
                results += others.apply(place, batch)
        return list(_one_letter_each(results))

    def close(self) -> None:
        """Close the store, if it was opened, and end the processes that work on texts."""
        self.text.close()
        if self._others is not None:
            self._others.close()
            self._client().close()
            log.info("chunks: %s", totals())


def _one_letter_each(
    results: Iterable[Indexed | DeadLetter],
) -> Iterator[Indexed | DeadLetter]:
    """Without the second dead letter of a delivery that has failed in two places."""
    told: set[Receipt] = set()
    for result in results:
        receipt = result.receipt if isinstance(result, DeadLetter) else None
        if receipt not in told:
            yield result
        if receipt is not None:
            told.add(receipt)


def _say_what_searches_miss(chunks: Mapping[str, int], model: str) -> None:
    searched = names_of_the_model(model)
    other = {name: count for name, count in chunks.items() if name not in searched}
    if other:
        listed = ", ".join(f"{count:,} by {name}" for name, count in sorted(other.items()))
        log.warning(
            "%s of %s chunks were embedded by another model than %s (%s): searches do not find "
            "them until make reconcile has embedded them again, or EMBEDDING_MODEL is set back",
            f"{sum(other.values()):,}", f"{sum(chunks.values()):,}", model, listed,
        )  # fmt: skip
