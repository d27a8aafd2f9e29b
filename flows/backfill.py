"""The backfill of a new place: every document that it lacks goes through the queue once more.

A document of the backfill is a message like any other, but for the new place only. So the features
flow, which alone writes, orders it among the live changes: its version is a cluster time from
before it was read, and the fence drops it where a change or a delete since then was applied
already. Few are on their way at a time, so that live changes need not wait long after them.

It keeps nothing: what was killed begins anew, and passes over what has a record already.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from pymongo import MongoClient

from connectors.mongodb import cluster_time, estimated_documents, scan_documents
from connectors.qdrant import QdrantStore
from connectors.rabbitmq import (
    RabbitMQConnection,
    RabbitMQPublisher,
    dead_letter_queue,
    queue_names,
    topology,
)
from flows.operators.encode import MAX_MESSAGE_BYTES
from flows.settings import Settings
from models import CapturedChange, ChangeEvent, Version, entry_id_of
from models.identity import partition_of
from models.stored import Key

ON_THEIR_WAY: Final = 96
"""Documents that are published and not written yet, at most: some hundred chunks."""
_AT_ONCE: Final = 32
_LOOK_EVERY_S: Final = 0.05
_STALLED_S: Final = 20.0
_SAY_EVERY_S: Final = 5.0

X = TypeVar("X")

log = logging.getLogger("flows")


class _Sent(NamedTuple):
    queue: str
    key: Key
    version: Version


class Backfill:
    """Publishes what a place lacks, as fast as the features flow writes it.

    :param searched: the store at the place that is searched: what has no record there is poison, or
        new, and so on its way to both
    :param filled: the store at the new place
    :param place: its id
    """

    def __init__(
        self, settings: Settings, searched: QdrantStore, filled: QdrantStore, place: str
    ) -> None:
        self._settings = settings
        self._searched = searched
        self._filled = filled
        self._place = place
        self._queues = queue_names(settings.queue, settings.partitions)
        self._sent: deque[_Sent] = deque()
        self._progress_at = time.monotonic()
        self._dead = 0

    def run(self, types: Sequence[str]) -> int:
        """Go through all documents of some types; how many were published.

        :raises PlaceGoneError: the place was removed meanwhile
        :raises PyMongoError: MongoDB does not answer; begin again
        """
        settings = self._settings
        queues = topology(settings.queue, settings.partitions)
        mongo = MongoClient[dict[str, Any]](settings.mongo_uri)
        with closing(mongo), closing(RabbitMQPublisher(settings.rabbitmq, queues)) as publisher:
            # Before the scan: what it reads must lose against every change made since.
            now = cluster_time(mongo, settings.mongo_database, types[0]).committed
            total = estimated_documents(mongo, settings.mongo_database, types)
            publisher.start()
            with RabbitMQConnection(settings=settings.rabbitmq) as connection:
                channel = connection.get_channel()
                for declaration in queues:
                    channel.queue_declare(**declaration)
                self._dead = self._letters(channel)
            seen = published = 0
            said_at = time.monotonic()
            for some in _batches(scan_documents(mongo, settings.mongo_database, types, now)):
                self._wait(publisher, ON_THEIR_WAY)
                messages = self._missing(some)
                publisher.submit(messages)
                seen, published = seen + len(some), published + len(messages)
                if time.monotonic() - said_at > _SAY_EVERY_S:
                    said_at = time.monotonic()
                    log.info("%d of about %d documents, %d of them sent", seen, total, published)
            publisher.flush()
            self._wait(publisher, 0)  # else the comparison that follows would find them missing
        return published

    def _missing(self, changes: Sequence[CapturedChange]) -> list[Any]:
        """The messages of those that the place lacks."""
        by_key = {Key(c.collection, entry_id_of(c.id)): c for c in changes}
        lacking = self._searched.recorded(by_key) - self._filled.recorded(by_key)
        messages = []
        for key in (key for key in by_key if key in lacking):
            event = ChangeEvent.from_change(by_key[key])._replace(place=self._place)
            queue = self._queues[partition_of(*key, len(self._queues))]
            message = event.to_message(queue)
            if len(message.body) > MAX_MESSAGE_BYTES:  # nor has a fresh sync it
                continue
            messages.append(message)
            self._sent.append(_Sent(queue, key, event.version))
        return messages

    def _wait(self, publisher: RabbitMQPublisher, most: int) -> None:
        """Wait until at most so many documents are on their way."""
        self._progress_at = time.monotonic()
        while len(self._sent) > most:
            publisher.check()
            self._settle()
            if len(self._sent) <= most:
                return
            if time.monotonic() - self._progress_at > _STALLED_S:
                self._progress_at = time.monotonic()
                if not self._are_on_their_way():  # the comparison will tell
                    self._sent.clear()
                    return
            time.sleep(_LOOK_EVERY_S)

    def _settle(self) -> None:
        """Forget what was written, and what was sent before it by the same queue: that has been
        handled, even if it has left nothing.
        """
        sent = list(self._sent)
        stored = self._filled.read([one.key for one in sent])
        newest: dict[str, int] = {}
        for number, one in enumerate(sent):
            if stored[one.key].version >= one.version:
                newest[one.queue] = number
        left = [one for number, one in enumerate(sent) if number > newest.get(one.queue, -1)]
        if len(left) < len(sent):
            self._sent = deque(left)
            self._progress_at = time.monotonic()

    def _are_on_their_way(self) -> bool:
        """Whether documents that were sent, and are not stored yet, will be.

        A broker counts what waits for a consumer, and not what one has in hand: so where there is a
        consumer, they are, unless there are more dead letters now.
        """
        with RabbitMQConnection(settings=self._settings.rabbitmq) as connection:
            channel = connection.get_channel()
            told = [channel.queue_declare(queue, passive=True).method for queue in self._queues]
            dead = self._letters(channel)
        more_died, self._dead = dead > self._dead, dead
        if any(one.message_count for one in told):
            log.warning("%d documents wait in the queue: is features running?", len(self._sent))
            return True
        if more_died or not any(one.consumer_count for one in told):
            return False
        log.warning("features has %d documents in hand for a while", len(self._sent))
        return True

    def _letters(self, channel: Any) -> int:
        queue = dead_letter_queue(self._settings.queue)
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def _batches(items: Iterable[X]) -> Iterator[list[X]]:
    left = iter(items)
    while some := list(islice(left, _AT_ONCE)):
        yield some
