"""Both sides in one dataflow graph, for a single process and for the picture in the README.

change stream → encode → queue → decode → clean → chunk → index
"""

from collections.abc import Callable
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows import cdc
from flows import features as features_flow
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.operators.index import IndexStep
from flows.settings import Settings
from flows.text.chunk import Chunker
from models import CapturedChange, Delivery


def build(
    changes: Source[CapturedChange],
    deliveries: Source[Delivery],
    chunker: Callable[[], Chunker],
    indexer: IndexStep,
    messages: Sink[Any],
    queue: str = "default",
    partitions: int = 1,
) -> Dataflow:
    """The whole pipeline; see `flows.cdc.build` and `flows.features.build`."""
    flow = Dataflow("pipeline")
    cdc.capture(flow, changes, queue, partitions, messages)
    features_flow.features(flow, deliveries, chunker, indexer, queue, messages)
    return flow


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    collect_rarely()
    stopping = StopSignal()
    with one_line_errors():
        settings = Settings.from_env()
        settings.configure_logging()
        model_and_store = features_flow.ModelAndStore(settings)
        changes = cdc.source(settings, stopping)
        deliveries = features_flow.source(settings, stopping, model_and_store.load)
    messages = cdc.sink(settings)

    def finish() -> None:
        messages.check()
        changes.finish()
        deliveries.finish()

    drain_on_signals(stopping, finish, model_and_store.close)
    return build(
        changes,
        deliveries,
        model_and_store.chunker,
        model_and_store,
        messages,
        settings.queue,
        settings.partitions,
    )
