"""One look at both sides: opens the systems, runs the dataflow of `flows.reconciliation`."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

from bson import Timestamp
from bytewax.testing import run_main
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from connectors.mongodb import cluster_time, find_again, reason_of, scan_documents, version_of
from connectors.qdrant import STORE_ERRORS, check_owner, one_line, open_reader, scan_points
from connectors.rabbitmq import queue_names
from connectors.scan import ScanSource
from flows.embedding.embedder import ChunkingEmbedder, Embedder
from flows.operators.judge import Finding
from flows.operators.publish import Submit
from flows.reconciliation import Report, build
from flows.settings import Settings
from flows.text.bounded import BoundedText
from models import MAX_ORDINAL, CapturedChange, ChangeEvent, Message, Version
from models.errors import ConfigurationError, StoreUnavailableError
from models.identity import partition_of

_MONGODB_MS: Final = 5000

log = logging.getLogger("flows")


class Comparison:
    """Compares the systems that the settings name, as often as it is asked to.

    :param types: the document types to compare
    :param embedder: instead of the model that the settings name
    """

    def __init__(
        self, settings: Settings, types: Sequence[str], embedder: ChunkingEmbedder | None = None
    ) -> None:
        self._settings = settings
        self._types = types
        self._queues = queue_names(settings.queue, settings.partitions)
        self._embedder = embedder or Embedder(
            settings.embedding_model, settings.embedding_device, settings.embedding_precision
        )

    def look(self, submit: Submit) -> Report:
        """Read both sides; a message for each document that differs goes to `submit`.

        :raises ConfigurationError: a system cannot be reached, or nothing has been stored yet
        """
        settings = self._settings
        report = Report()
        with ExitStack() as stack:
            try:
                mongo = stack.enter_context(
                    MongoClient[dict[str, Any]](
                        settings.mongo_uri, serverSelectionTimeoutMS=_MONGODB_MS
                    )
                )
                # Read before the scan: a repair must lose against every change made since.
                now = cluster_time(mongo, settings.mongo_database, self._types[0]).committed
                store = stack.enter_context(open_reader(settings.qdrant))
                names = settings.qdrant.collections
                check_owner(lambda request: request(store), names, settings.owner)
            except PyMongoError as error:
                raise ConfigurationError(f"MongoDB cannot be read: {reason_of(error)}") from error
            except StoreUnavailableError as error:
                raise ConfigurationError(one_line(error)) from error
            except STORE_ERRORS as error:
                raise ConfigurationError(f"Qdrant cannot be read: {one_line(error)}") from error
            model = self._embedder.tokenizer, self._embedder.max_tokens
            text = stack.enter_context(closing(BoundedText(lambda: model)))
            log.info("comparing %s", ", ".join(self._types))
            dataflow = build(
                ScanSource(
                    lambda: scan_documents(mongo, settings.mongo_database, self._types, now)
                ),
                ScanSource(lambda: scan_points(store, self._types, names)),
                lambda: text,
                self._embedder.name,
                submit,
                report,
                partial(self._repair, mongo, now),
                text.clean,
            )
            run_main(dataflow)  # type: ignore[no-untyped-call]  # bytewax has no type here
        return report

    def _repair(
        self, client: "MongoClient[dict[str, Any]]", now: Timestamp, finding: Finding
    ) -> Message | None:
        """The message of a finding, for which its document is read again; none where the document
        is gone by now.
        """
        key, version = finding.key, version_of(now)
        queue = self._queues[partition_of(*key, len(self._queues))]
        database = self._settings.mongo_database
        document = find_again(client, database, *key, finding.mongo_id, now)
        if document is not None:
            change = CapturedChange(
                "repair", key.type, version, document["_id"], document, ordinal=MAX_ORDINAL
            )
            return ChangeEvent.from_change(change).to_message(queue)
        if finding.mongo_id is not None:
            return None
        body = {"type": key.type, "entry_id": key.entry_id}
        event = ChangeEvent("repair", key.type, key.entry_id, Version(version, MAX_ORDINAL), body)
        return event.to_message(queue)
