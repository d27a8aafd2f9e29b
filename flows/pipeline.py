"""Both sides in one dataflow graph, for a single process and for the picture in the README.

change stream → encode → queue → decode → clean → chunk → index
"""

from collections.abc import Callable

from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from flows import cdc
from flows import features as features_flow
from flows.finishing import finishing, in_turn
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.model_and_store import ModelAndStore
from flows.operators.index import IndexStep
from flows.operators.prepare import MAX_CHUNKS, Cleaner
from flows.operators.publish import Messages
from flows.settings import Settings
from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from models import CapturedChange, Delivery


def build(
    changes: Source[CapturedChange],
    deliveries: Source[Delivery],
    chunker: Callable[[], Splitter],
    indexer: IndexStep,
    messages: Messages,
    dead_letters: Messages,
    queue: str = "default",
    partitions: int = 1,
    cleaner: Cleaner = clean_texts,
    most_chunks: int = MAX_CHUNKS,
) -> Dataflow:
    """The whole pipeline; see `flows.cdc.build` and `flows.features.build`."""
    flow = Dataflow("pipeline")
    cdc.capture(flow, changes, queue, partitions, messages)
    features_flow.features(
        flow, deliveries, chunker, indexer, queue, dead_letters, cleaner, most_chunks
    )
    return flow


def assemble(settings: Settings, model_and_store: ModelAndStore) -> Dataflow:
    """The dataflow from the real servers to a model and a store; a signal ends it."""
    collect_rarely()
    stopping = StopSignal()
    # One for each side: consuming goes on while an alarm of the broker holds the changes back.
    messages, letters = cdc.publisher(settings), features_flow.publisher(settings)
    changes = cdc.source(settings, stopping, messages)
    deliveries = features_flow.source(settings, stopping, model_and_store.load, letters)
    drain_on_signals(
        stopping,
        finishing(changes, deliveries),
        in_turn(messages.close, letters.close, model_and_store.close),
    )
    text = model_and_store.text
    return build(
        stopping.watch(changes),
        stopping.watch(deliveries),
        lambda: text,
        model_and_store,
        messages.submit,
        letters.submit,
        settings.queue,
        settings.partitions,
        text.clean,
        settings.max_chunks,
    )


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
        settings.configure_logging()
        return assemble(settings, ModelAndStore(settings))
