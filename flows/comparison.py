"""One look at both sides: opens the systems, runs the dataflow of `flows.reconciliation`."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from bson import Timestamp
from bytewax.errors import BytewaxRuntimeError
from bytewax.testing import run_main
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from qdrant_client import QdrantClient

from connectors.mongodb import (
    cluster_time,
    estimated_documents,
    find_again,
    findable,
    reason_of,
    scan_documents,
    version_of,
)
from connectors.qdrant import (
    STORE_ERRORS,
    ScannedPoint,
    check_owner,
    estimated_points,
    one_line,
    open_reader,
    points_of,
    read_places,
    scan_points,
)
from connectors.rabbitmq import queue_names
from connectors.scan import ScanSource
from flows.embedding.embedder import ChunkingEmbedder, Embedder
from flows.operators.encode import MAX_MESSAGE_BYTES
from flows.operators.judge import Finding
from flows.operators.publish import Submit
from flows.progress import Progress
from flows.reconciliation import Report, build, expect_with
from flows.second_look import SecondLook
from flows.settings import Settings
from flows.text.bounded import BoundedText
from models import MAX_ORDINAL, CapturedChange, ChangeEvent, Message, Version
from models.errors import ConfigurationError, PlaceGoneError, StoreUnavailableError
from models.identity import entry_id_of, partition_of
from models.places import FIRST
from models.stored import Key

_MONGODB_MS: Final = 5000

log = logging.getLogger("flows")


@contextmanager
def _reachable() -> Iterator[None]:
    """Put a system that does not answer into one line."""
    try:
        yield
    except PyMongoError as error:
        raise ConfigurationError(f"MongoDB cannot be read: {reason_of(error)}") from error
    except StoreUnavailableError as error:
        raise ConfigurationError(one_line(error)) from error
    except STORE_ERRORS as error:
        raise ConfigurationError(f"Qdrant cannot be read: {one_line(error)}") from error


class Comparison:
    """Compares the systems that the settings name, as often as it is asked to, until it is closed.

    :param types: the document types to compare
    :param embedder: instead of the model that the settings name
    :param place: id of the place to compare with, which alone is repaired; of None, see
        `models.places`, the store was never migrated
    :raises ConfigurationError: by each method, if a system cannot be reached, or nothing has been
        stored yet
    :raises PlaceGoneError: by each method, if the place was removed meanwhile
    """

    def __init__(
        self,
        settings: Settings,
        types: Sequence[str],
        embedder: ChunkingEmbedder | None = None,
        place: str | None = None,
    ) -> None:
        self._settings = settings
        self._types = types
        self._queues = queue_names(settings.queue, settings.partitions)
        self._embedder = embedder or Embedder(
            settings.embedding_model, settings.embedding_device, settings.embedding_precision
        )
        self._text = BoundedText(lambda: (self._embedder.tokenizer, self._embedder.max_tokens))
        self._expect = expect_with(
            lambda: self._text, self._text.clean, self._embedder.name, settings.max_chunks
        )
        with _reachable():  # the name of a cluster is looked up here
            self._mongo = MongoClient[dict[str, Any]](
                settings.mongo_uri, serverSelectionTimeoutMS=_MONGODB_MS
            )
        self._place = place
        self.names = settings.qdrant.collections.at(place or FIRST)
        self._ids: dict[Key, Any] = {}

    def close(self) -> None:
        """Disconnect, and end the process that works on texts."""
        self._text.close()
        self._mongo.close()

    def look(self, submit: Submit) -> Report:
        """Read both sides; a message for each document that differs goes to `submit`."""
        report = Report()
        with ExitStack() as stack:
            with _reachable():
                # Read before the scan: a repair must lose against every change made since.
                now = self._cluster_time()
                store = stack.enter_context(open_reader(self._settings.qdrant))
                check_owner(lambda request: request(store), self.names, self._settings.owner)
                progress = Progress(
                    estimated_documents(self._mongo, self._settings.mongo_database, self._types),
                    estimated_points(store, self._types, self.names),
                )
            log.info("comparing %s", ", ".join(self._types))
            dataflow = build(
                ScanSource(lambda: progress.documents(self._scanned(now))),
                ScanSource(lambda: progress.points(self._stored(store))),
                self._expect,
                self._second_look(now),
                submit,
                report,
                lambda finding: self._repair(now, finding),
            )
            try:
                run_main(dataflow)  # type: ignore[no-untyped-call]  # bytewax has no type here
            except BytewaxRuntimeError as error:
                if isinstance(error.__cause__, PlaceGoneError):
                    raise error.__cause__ from error
                raise
        return report

    def still_wrong(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the documents that differ now."""
        with _reachable():
            return self._second_look(self._cluster_time()).still_wrong(keys)

    def _second_look(self, now: Timestamp) -> SecondLook:
        return SecondLook(lambda keys: self._again(now, keys), self._points, self._expect)

    def _cluster_time(self) -> Timestamp:
        database = self._settings.mongo_database
        return cluster_time(self._mongo, database, self._types[0]).committed

    def _scanned(self, now: Timestamp) -> Iterator[CapturedChange]:
        for change in scan_documents(self._mongo, self._settings.mongo_database, self._types, now):
            if not findable(change.id):
                self._ids[Key(change.collection, entry_id_of(change.id))] = change.id
            yield change

    def _again(self, now: Timestamp, keys: Iterable[Key]) -> Iterator[CapturedChange]:
        return find_again(self._mongo, self._settings.mongo_database, keys, now, self._ids)

    def _points(self, keys: Collection[Key]) -> Iterator[ScannedPoint]:
        with open_reader(self._settings.qdrant) as store:
            yield from points_of(store, keys, self.names, lambda: self._is_removed(store))

    def _stored(self, store: QdrantClient) -> Iterator[ScannedPoint]:
        return scan_points(store, self._types, self.names, lambda: self._is_removed(store))

    def _is_removed(self, store: QdrantClient) -> bool:
        """By a migration that has ended meanwhile."""
        try:
            places = read_places(store, self._settings.qdrant.collections)
        except STORE_ERRORS:
            return False
        return places is not None and places.lacks(self._place or FIRST)

    def _repair(self, now: Timestamp, finding: Finding) -> Message | None:
        """The message of a finding, for which its document is read again; none where the document
        is gone by now.
        """
        key, version = finding.key, Version(version_of(now), MAX_ORDINAL)
        queue = self._queues[partition_of(*key, len(self._queues))]
        for change in self._again(now, [key]):
            message = ChangeEvent.from_change(change)._replace(place=self._place).to_message(queue)
            if len(message.body) <= MAX_MESSAGE_BYTES:
                return message
            break  # it is to go, as capture has it
        else:
            # Nor where the scan has seen a document that cannot be found again by its `entry_id`.
            if finding.mongo_id is not None or key in self._ids:
                return None
        body = {"type": key.type, "entry_id": key.entry_id}
        event = ChangeEvent("repair", *key, version, body, place=self._place)
        return event.to_message(queue)
