"""Features: messages from RabbitMQ, cleaned, chunked, embedded and kept in Qdrant.

    queue → decode → clean → chunk → index → done
                 ↘       ↘       ↘       ↘ dead letters

Run it with `python -m bytewax.run flows.features`.
"""

import threading
from collections.abc import Callable

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from connectors.rabbitmq import (
    RabbitMQPublisher,
    RabbitMQSource,
    dead_letter_queue,
    topology,
)
from flows.finishing import finishing, in_turn
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.model_and_store import ModelAndStore
from flows.operators.attempt import attempt, bury
from flows.operators.index import IndexStep
from flows.operators.index import index as index_step
from flows.operators.prepare import (
    MAX_CHUNKS,
    Cleaner,
    chunk,
    clean_with,
    dead_at,
    decode,
    retract,
    undecodable,
)
from flows.operators.publish import Messages, publish
from flows.recovery import check_recovery
from flows.settings import Settings
from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from models import Delivery


def features(
    flow: Dataflow,
    deliveries: Source[Delivery],
    chunker: Callable[[], Splitter],
    indexer: IndexStep,
    queue: str,
    dead_letters: Messages,
    cleaner: Cleaner = clean_texts,
    most_chunks: int = MAX_CHUNKS,
) -> None:
    """Add the features side to a dataflow."""
    delivered = op.input("rabbitmq_queue", flow, deliveries)
    decoded = attempt("decode", delivered, decode, undecodable)
    cleaned = attempt("clean", decoded.oks, clean_with(cleaner), dead_at("clean"), retract)
    chunked = attempt("chunk", cleaned.oks, chunk(chunker, most_chunks), dead_at("chunk"), retract)
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
    most_chunks: int = MAX_CHUNKS,
) -> Dataflow:
    """The features dataflow.

    :param deliveries: messages, see `models.ChangeEvent`
    :param chunker: called for the chunker when the first document arrives
    :param indexer: reads, embeds and writes a batch
    :param dead_letters: takes them; see `flows.operators.publish`
    :param cleaner: cleans the texts of one document
    :param most_chunks: of a document
    """
    flow = Dataflow("features")
    features(flow, deliveries, chunker, indexer, queue, dead_letters, cleaner, most_chunks)
    return flow


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
        settings.max_chunks,
    )


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
        settings.configure_logging()
        return assemble(settings, ModelAndStore(settings))
