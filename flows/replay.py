"""Puts dead letters back: `python -m flows.replay`.

Each letter goes to the queue of its document with the version it had, so the fence drops it where
something newer is stored; one that is superseded already is discarded, and named. A letter that
fails again comes back to the dead letters.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from connectors.qdrant import STORE_ERRORS, QdrantStore, one_line, open_reader, searched_collections
from connectors.rabbitmq import RabbitMQConnection, dead_letter_queue, queue_names, topology
from flows.command import run_command, without_options
from flows.logs import say
from flows.settings import Settings
from models import DOCUMENT_TYPES, Version
from models.dead_letters import OWN_HEADERS
from models.errors import ConfigurationError, StoreUnavailableError
from models.identity import partition_of
from models.stored import Key


def main() -> int:
    """Replay everything that is in the dead-letter queue now; the exit code."""
    settings = Settings.from_env()
    settings.configure_logging()
    try:
        with ExitStack() as stack:
            store = _open_store(settings, stack)
            connection = stack.enter_context(RabbitMQConnection(settings=settings.rabbitmq))
            connection.declare(topology(settings.queue, settings.partitions))
            replayed, superseded = replay(connection.get_channel(), settings, store)
    except ConnectionError as error:
        raise ConfigurationError(str(error)) from error
    say(f"dead letters: {replayed} put back, {superseded} superseded and discarded")
    return 0


def replay(
    channel: BlockingChannel, settings: Settings, store: QdrantStore | None
) -> tuple[int, int]:
    """Move the letters that are there now, each confirmed before it is acknowledged.

    :param store: tells what is superseded; None where nothing can be read
    :returns: letters put back, letters discarded as superseded
    """
    oldest = time.time() - settings.tombstone_retention_days * 86400
    queues = queue_names(settings.queue, settings.partitions)
    dlq = dead_letter_queue(settings.queue)
    channel.confirm_delivery()
    waiting = channel.queue_declare(dlq, passive=True).method.message_count
    replayed = superseded = 0
    for _ in range(waiting):
        method, properties, body = channel.basic_get(dlq)
        if method is None or properties is None:
            break
        headers = dict(properties.headers or {})
        key = _key(headers, body or b"")
        version = _version(headers, properties)
        if version is not None and version.time >> 32 < oldest:
            # Its document may have been deleted so long ago that no tombstone tells of it.
            of = f"{key.type} {key.entry_id}" if key else "an unknown document"
            say(f"too old to replay, left where it is: {of}; run make reconcile to repair it")
            channel.basic_publish("", dlq, body or b"", properties, mandatory=True)
        elif key and store and version is not None and store.read([key])[key].version > version:
            say(f"superseded by a newer version: {key.type} {key.entry_id}")
            superseded += 1
        else:
            queue = _queue(key, headers, queues)
            kept = {k: v for k, v in headers.items() if k not in OWN_HEADERS and k[:2] != "x-"}
            if version is not None:
                kept |= version.fields()
            if "version" not in headers:  # its producer gave none: it stays a foreign change
                kept["foreign"] = True
            properties.headers = kept
            channel.basic_publish("", queue, body or b"", properties, mandatory=True)
            replayed += 1
        channel.basic_ack(method.delivery_tag)
    return replayed, superseded


def _open_store(settings: Settings, stack: ExitStack) -> QdrantStore | None:
    try:
        client = stack.enter_context(open_reader(settings.qdrant))
    except StoreUnavailableError:
        return None
    try:
        names = searched_collections(client, settings.qdrant.collections)
    except STORE_ERRORS as error:
        raise ConfigurationError(f"Qdrant cannot be read: {one_line(error)}") from error
    store = QdrantStore(client, DOCUMENT_TYPES, names)
    store.check_owner(settings.owner)
    return store


def _key(headers: Mapping[str, Any], body: bytes) -> Key | None:
    type_, entry_id = headers.get("document_type"), headers.get("document_id")
    if not entry_id:
        try:
            document = json.loads(body)
            type_, entry_id = document["type"], document["entry_id"]
        except (ValueError, RecursionError, TypeError, KeyError):
            return None
    if type_ not in DOCUMENT_TYPES or not isinstance(entry_id, str):
        return None
    return Key(str(type_), entry_id)


def _queue(key: Key | None, headers: Mapping[str, Any], queues: Sequence[str]) -> str:
    """The queue of a document; for what is of none, the queue that the letter came from."""
    if key:
        return queues[partition_of(*key, len(queues))]
    return headers["queue"] if headers.get("queue") in queues else queues[0]


def _version(headers: Mapping[str, Any], properties: pika.BasicProperties) -> Version | None:
    """The version that a letter had; for one that the broker itself moved here, and that never
    had a version, the time at which it was published; None where it is unreadable.
    """
    if "version" in headers:
        with suppress(ValueError):
            return Version.read(headers)
        return None
    deaths = headers.get("x-death") or [{}]
    died = deaths[0].get("time") if isinstance(deaths[0], Mapping) else None
    seconds = properties.timestamp or (died.timestamp() if isinstance(died, datetime) else None)
    return None if seconds is None else Version(int(seconds) << 32)


if __name__ == "__main__":
    without_options(
        "flows.replay",
        "Put every dead letter back into the queue of its document, with the version that it had. "
        "A letter that is older than the stored document is named and discarded.",
        "Exit code 0: done. 1: a system cannot be reached, or a setting is wrong.",
    )
    sys.exit(run_command("replay", main))
