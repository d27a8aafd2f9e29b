"""Capture: what is in MongoDB, and every change of it, as messages in RabbitMQ.

    change stream → encode → queue of the document's partition
                        ↘ dead letters

Run it with `python -m bytewax.run flows.cdc`.
"""

import threading

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from connectors.mongodb import MongoChangeStreamSource, pipeline_name
from connectors.rabbitmq import RabbitMQPublisher, dead_letter_queue, queue_names, topology
from flows.finishing import finishing
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.operators.attempt import attempt, bury
from flows.operators.encode import encode, removal, unencodable
from flows.operators.publish import Messages, publish
from flows.recovery import check_recovery
from flows.settings import Settings
from models import DOCUMENT_TYPES, CapturedChange


def capture(
    flow: Dataflow,
    changes: Source[CapturedChange],
    queue: str,
    partitions: int,
    messages: Messages,
) -> None:
    """Add the capture side to a dataflow."""
    changed = op.input("mongodb_change_stream", flow, changes)
    queues = queue_names(queue, partitions)
    encoded = attempt("encode", changed, encode(queues), unencodable, removal(queues))
    upserts = op.flatten("messages", encoded.oks)
    dead = op.map("unencodable", encoded.errs, bury(dead_letter_queue(queue)))
    publish("publish_to_rabbitmq", op.merge("outgoing", upserts, dead), messages)


def build(
    changes: Source[CapturedChange],
    messages: Messages,
    queue: str = "default",
    partitions: int = 1,
) -> Dataflow:
    """The capture dataflow.

    :param changes: the change stream
    :param messages: takes them; see `flows.operators.publish`
    """
    flow = Dataflow("cdc")
    capture(flow, changes, queue, partitions, messages)
    return flow


def source(
    settings: Settings, stopping: threading.Event, messages: RabbitMQPublisher
) -> MongoChangeStreamSource:
    """The change stream that the settings name; `messages` publishes what is made of it."""
    return MongoChangeStreamSource(
        settings.mongo_uri,
        settings.mongo_database,
        tuple(DOCUMENT_TYPES),
        settings.mongo_checkpoint_database,
        pipeline_name(settings.mongo_database, settings.rabbitmq.virtual_host, settings.queue),
        publisher=messages,
        snapshot=settings.cdc_snapshot,
        on_lost_history=settings.cdc_on_lost_history,
        propagate_drops=settings.cdc_propagate_drops,
        stopping=stopping,
    )


def publisher(settings: Settings) -> RabbitMQPublisher:
    """A publisher to the broker that the settings name."""
    return RabbitMQPublisher(settings.rabbitmq, topology(settings.queue, settings.partitions))


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
    settings.configure_logging()
    collect_rarely()
    stopping = StopSignal()
    messages = publisher(settings)
    changes = source(settings, stopping, messages)
    with one_line_errors():
        check_recovery("mongodb_change_stream", changes.list_parts())
    drain_on_signals(stopping, finishing(changes), messages.close)
    return build(stopping.watch(changes), messages.submit, settings.queue, settings.partitions)
