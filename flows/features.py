"""Features: messages from RabbitMQ, cleaned, chunked, embedded and kept in Qdrant.

    queue → decode → clean → chunk → index → done
                 ↘       ↘       ↘       ↘ dead letters

Run it with `python -m bytewax.run flows.features`.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from connectors.qdrant import QdrantStore, open_patiently
from connectors.rabbitmq import (
    RabbitMQPublisher,
    RabbitMQSource,
    dead_letter_queue,
    queue_names,
    topology,
)
from flows.embedding.embedder import ChunkingEmbedder, Embedder, lazily
from flows.embedding.precision import names_of_the_model
from flows.finishing import finishing, in_turn
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.operators.attempt import attempt, bury
from flows.operators.index import Indexer, IndexStep
from flows.operators.index import index as index_step
from flows.operators.prepare import (
    Cleaner,
    chunk,
    clean_with,
    dead_at,
    decode,
    retract,
    undecodable,
)
from flows.operators.publish import Messages, publish
from flows.operators.write import Indexed
from flows.recovery import check_recovery
from flows.settings import Settings
from flows.text.bounded import BoundedText
from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from models import DOCUMENT_TYPES, DeadLetter, Delivery
from models.metrics import totals
from models.prepared import Prepared

log = logging.getLogger("flows")

PRUNE_EVERY_S = 3600.0


def features(
    flow: Dataflow,
    deliveries: Source[Delivery],
    chunker: Callable[[], Splitter],
    indexer: IndexStep,
    queue: str,
    dead_letters: Messages,
    cleaner: Cleaner = clean_texts,
) -> None:
    """Add the features side to a dataflow."""
    delivered = op.input("rabbitmq_queue", flow, deliveries)
    decoded = attempt("decode", delivered, decode, undecodable)
    cleaned = attempt("clean", decoded.oks, clean_with(cleaner), dead_at("clean"), retract)
    chunked = attempt("chunk", cleaned.oks, chunk(chunker), dead_at("chunk"), retract)
    indexed = index_step("embed_into_qdrant", chunked.oks, indexer)
    dead = op.merge("failed", decoded.errs, cleaned.errs, chunked.errs, indexed.errs)
    letters = op.map("dead_letters", dead, bury(dead_letter_queue(queue)))
    publish("publish_dead_letters", letters, dead_letters)


def build(
    deliveries: Source[Delivery],
    chunker: Callable[[], Splitter],
    indexer: IndexStep,
    dead_letters: Messages,
    queue: str = "default",
    cleaner: Cleaner = clean_texts,
) -> Dataflow:
    """The features dataflow.

    :param deliveries: messages, see `models.ChangeEvent`
    :param chunker: called for the chunker when the first document arrives
    :param indexer: reads, embeds and writes a batch
    :param dead_letters: takes them; see `flows.operators.publish`
    :param cleaner: cleans the texts of one document
    """
    flow = Dataflow("features")
    features(flow, deliveries, chunker, indexer, queue, dead_letters, cleaner)
    return flow


class ModelAndStore:
    """Model and store of one process, opened when the flow starts and not when it is built.

    :param settings: names model and store
    :param embedder: instead of the model that the settings name
    :param text: instead of the usual bound on the work on texts
    """

    def __init__(
        self,
        settings: Settings,
        embedder: ChunkingEmbedder | None = None,
        text: BoundedText | None = None,
    ) -> None:
        self._settings = settings
        self._opened: QdrantStore | None = None
        self.embedder = embedder or Embedder(
            settings.embedding_model, settings.embedding_device, settings.embedding_precision
        )
        self.text = text or BoundedText(lambda: (self.embedder.tokenizer, self.embedder.max_tokens))
        self.indexer = lazily(self._indexer)
        self.store = lazily(self._open)
        self._prune_at = 0.0

    def _open(self) -> QdrantStore:
        settings = self._settings
        client = open_patiently(settings.qdrant)
        store = self._opened = QdrantStore(client, DOCUMENT_TYPES, settings.qdrant.collections)
        store.claim(settings.owner)
        store.ensure_collections(self.embedder.dimension)
        _say_what_searches_miss(store.chunks_by_model(), self.embedder.name)
        return store

    def _indexer(self) -> Indexer:
        queues = queue_names(self._settings.queue, self._settings.partitions)
        return Indexer(self.store(), self.embedder, queues=queues)

    def load(self) -> None:
        """Load the model and open the store, before the first message is consumed: a process that
        dies of either counts no delivery.
        """
        self.text.load()
        self.indexer()

    def __call__(self, batch: list[Prepared]) -> list[Indexed | DeadLetter]:
        """Index a batch; now and then, forget old tombstones before it."""
        if time.monotonic() > self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY_S
            age = self._settings.tombstone_retention_days * 86400
            self.store().prune_tombstones(time.time() - age)
        return self.indexer()(batch)

    def close(self) -> None:
        """Close the store, if it was opened, and end the processes that work on texts."""
        self.text.close()
        if self._opened is not None:
            self._opened.close()
            log.info("chunks: %s", totals())


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


def source(
    settings: Settings,
    stopping: threading.Event,
    before_consuming: Callable[[], None],
    dead_letters: RabbitMQPublisher,
) -> RabbitMQSource:
    """The queues that the settings name; `dead_letters` publishes what fails of them.

    :raises ConfigurationError: the recovery directory remembers other queues
    """
    deliveries = RabbitMQSource(
        settings.rabbitmq,
        settings.queue,
        dead_letters,
        settings.partitions,
        settings.prefetch,
        before_consuming=before_consuming,
        stopping=stopping,
    )
    check_recovery("rabbitmq_queue", deliveries.list_parts())
    return deliveries


def publisher(settings: Settings) -> RabbitMQPublisher:
    """A publisher of dead letters to the broker that the settings name."""
    queues = topology(settings.queue, settings.partitions)
    return RabbitMQPublisher(settings.rabbitmq, queues, name="dead-letters")


def assemble(settings: Settings, model_and_store: ModelAndStore) -> Dataflow:
    """The dataflow from the real broker to a model and a store; a signal ends it."""
    collect_rarely()
    stopping = StopSignal()
    letters = publisher(settings)
    deliveries = source(settings, stopping, model_and_store.load, letters)
    drain_on_signals(stopping, finishing(deliveries), in_turn(letters.close, model_and_store.close))
    text = model_and_store.text
    return build(
        stopping.watch(deliveries),
        lambda: text,
        model_and_store,
        letters.submit,
        settings.queue,
        text.clean,
    )


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
        settings.configure_logging()
        return assemble(settings, ModelAndStore(settings))
