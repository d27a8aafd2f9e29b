"""Reconciliation: joins MongoDB with the store by document, reports what differs, repairs it.

    MongoDB → clean → chunk ↘
                             join → judge → repair → queue
    Qdrant  ────────────────↗

A bounded dataflow: run it with `python -m bytewax.run flows.reconcile`, beside live flows or not.
Repairs are messages of the time before the scan, so the fence lets nothing newer be overwritten,
and a document that was only on its way costs nothing. Exit code 0 when nothing was wrong or
everything is repaired, 1 if it could not be. `RECONCILE_REPAIR=false` only reports.
"""

import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import bytewax.operators as op
from bson import Timestamp
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import FixedPartitionedSink, Sink, StatefulSinkPartition
from bytewax.testing import run_main
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from connectors.mongodb import cluster_time, find_again, scan_documents, version_of
from connectors.qdrant import (
    STORE_ERRORS,
    QdrantStore,
    check_owner,
    one_line,
    open_client,
    open_reader,
    scan_points,
)
from connectors.rabbitmq import RabbitMQConnection, RabbitMQPublisher, queue_names, topology
from connectors.scan import ScanSource
from flows.embedding.embedder import ChunkingEmbedder, Embedder
from flows.lifecycle import one_line_errors
from flows.logs import complain, say
from flows.operators.attempt import attempt
from flows.operators.judge import Expected, Finding, Sides, expected, gather, judge
from flows.operators.prepare import Cleaner, chunk, clean_with, decode
from flows.operators.publish import Submit, publish
from flows.settings import Settings
from flows.text.bounded import BoundedText
from flows.text.chunk import Splitter
from flows.text.clean import clean_texts
from models import (
    DOCUMENT_TYPES,
    MAX_ORDINAL,
    CapturedChange,
    ChangeEvent,
    DeadLetter,
    Delivery,
    Message,
    Version,
)
from models.dead_letters import describe
from models.errors import ConfigurationError, StoreUnavailableError
from models.identity import partition_of
from models.stored import Key

VERIFY_S = 60.0
_SHOWN = 20


def build(
    documents: Source[CapturedChange],
    points: Source[Any],
    chunker: Callable[[], Splitter],
    model: str,
    submit: Submit,
    report: Sink[Any],
    repair: Callable[[Finding], Message | None],
    cleaner: Cleaner = clean_texts,
) -> Dataflow:
    """The reconciliation dataflow.

    :param documents: every document in MongoDB
    :param points: every point in the store, see `connectors.scan.scan_points`
    :param model: name of the embedder
    :param submit: takes repairs; see `flows.operators.publish`
    :param report: takes (kind, finding) pairs
    :param repair: makes the message that repairs a finding, if any is needed
    :param cleaner: cleans the texts of one document
    """
    cut, clean = chunk(chunker), clean_with(cleaner)

    def expect(change: CapturedChange) -> tuple[str, Expected]:
        message = ChangeEvent.from_change(change).to_message("")
        prepared = cut(clean(decode(Delivery("", message.body, message.headers))))
        return _name(prepared.key), expected(prepared, change, model)

    def judge_sides(named: tuple[str, Sides]) -> Finding | None:
        return judge(Key(*json.loads(named[0])), named[1])

    flow = Dataflow("reconcile")
    scanned = op.input("mongodb_scan", flow, documents)
    wanted = attempt("clean_and_chunk", scanned, expect, _unusable)
    stored = op.map("stored", op.input("qdrant_scan", flow, points), lambda p: (_name(p[0]), p[1:]))
    sides = op.merge("both_sides", wanted.oks, stored)
    joined = op.fold_final("join", sides, Sides, gather)
    findings = op.filter_map("judge", joined, judge_sides)
    publish("publish_repairs", op.filter_map("repair", findings, repair), submit)
    unusable = op.map("unusable", wanted.errs, lambda letter: ("unusable", letter))
    reported = op.map("as_line", findings, lambda finding: (finding.kind, finding))
    op.output("report", op.merge("all_lines", reported, unusable), report)
    return flow


class Report(FixedPartitionedSink[Any, None]):
    """Collects findings by kind, in the memory of one process."""

    def __init__(self) -> None:
        self.begun = False
        self.findings: list[Finding] = []
        self.kinds: Counter[str] = Counter()

    def list_parts(self) -> list[str]:
        """One list."""
        self.begun = True
        return ["report"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_ReportPartition":
        """The list."""
        return _ReportPartition(self)


class _ReportPartition(StatefulSinkPartition[Any, None]):
    def __init__(self, report: Report) -> None:
        self._report = report

    def write_batch(self, values: list[Any]) -> None:
        for value in values:
            kind = value.kind if isinstance(value, Finding) else "unusable"
            self._report.kinds[kind] += 1
            if isinstance(value, Finding):
                self._report.findings.append(value)

    def snapshot(self) -> None:
        return None


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
        settings.configure_logging()
        return Run(settings).begin()


class Run:
    """One reconciliation: what it reads, what it found, and how it ends.

    :param settings: names the systems
    :param embedder: instead of the model that the settings name
    """

    def __init__(self, settings: Settings, embedder: ChunkingEmbedder | None = None) -> None:
        self._settings = settings
        self._queues = queue_names(settings.queue, settings.partitions)
        self._resources = ExitStack()
        self._embedder = embedder or Embedder(
            settings.embedding_model, settings.embedding_device, settings.embedding_precision
        )
        self._report = Report()
        queues = topology(settings.queue, settings.partitions)
        self._publisher = RabbitMQPublisher(settings.rabbitmq, queues)

    def begin(self) -> Dataflow:
        """The dataflow; when it has run, this process goes on to check the repairs and exits.

        :raises ConfigurationError: a system cannot be reached, or nothing has been stored yet
        """
        dataflow = self._build(self._report, repair=self._settings.reconcile_repair)
        # Not an atexit function: from there Python 3.12 starts no threads, and clients need some.
        threading.Thread(target=self._end, name="report").start()
        return dataflow

    def _build(self, report: Report, *, repair: bool) -> Dataflow:
        settings, resources = self._settings, self._resources
        try:
            mongo = resources.enter_context(
                MongoClient[dict[str, Any]](settings.mongo_uri, serverSelectionTimeoutMS=5000)
            )
            # Read before the scan: a repair must lose against every change made since.
            now = cluster_time(mongo, settings.mongo_database, next(iter(DOCUMENT_TYPES))).committed
            store = resources.enter_context(open_reader(settings.qdrant))
            names = settings.qdrant.collections
            check_owner(store, lambda call: call(), names, settings.owner)
        except (PyMongoError, StoreUnavailableError) as error:
            raise ConfigurationError(one_line(error)) from error
        except STORE_ERRORS as error:
            raise ConfigurationError(f"Qdrant is unreachable: {one_line(error)}") from error
        model = self._embedder.tokenizer, self._embedder.max_tokens
        text = resources.enter_context(closing(BoundedText(lambda: model)))
        return build(
            ScanSource(lambda: scan_documents(mongo, settings.mongo_database, DOCUMENT_TYPES, now)),
            ScanSource(lambda: scan_points(store, DOCUMENT_TYPES, names)),
            lambda: text,
            self._embedder.name,
            self._submit if repair else lambda _repairs: None,
            report,
            partial(self._repair, mongo, now),
            text.clean,
        )

    def _submit(self, repairs: list[Message]) -> None:
        self._publisher.start()
        self._publisher.submit(repairs)

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

    def _end(self) -> None:
        """Print the report, wait until the repairs have arrived, and end the process."""
        threading.main_thread().join()
        failed = getattr(sys, "last_value", None) is not None
        if failed or not self._report.begun:
            return  # the dataflow failed, and said so; or it was only drawn
        code = 1
        try:
            code = 0 if self._finish() else 1
            self._resources.close()
        except Exception as error:  # noqa: BLE001 (whatever it is: not known to be repaired)
            complain(f"reconcile: {describe(error)}")
        finally:
            sys.stdout.flush()
            logging.shutdown()
            os._exit(code)

    def _finish(self) -> bool:
        found = len(self._report.findings)
        for finding in self._report.findings[:_SHOWN]:
            say(f"{finding.kind}: {finding.key.type} {finding.key.entry_id}")
        if found > _SHOWN:
            say(f"… and {found - _SHOWN} more")
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._report.kinds.items()))
        say(f"reconcile: {kinds or 'nothing is wrong'}")
        self._prune()
        if not found:
            return True
        if not self._settings.reconcile_repair:
            say("nothing was repaired, since RECONCILE_REPAIR=false")
            return True
        self._publisher.flush()
        self._publisher.close()
        if not self._consumed():
            say(f"{found} repairs wait in the queue: they are applied once features runs")
            return True
        return self._verified()

    def _verified(self) -> bool:
        """Look again until nothing of what was found is wrong any more."""
        found = {finding.key for finding in self._report.findings}
        deadline = time.monotonic() + VERIFY_S
        while True:
            time.sleep(1.0)
            self._resources.close()
            again = Report()
            run_main(self._build(again, repair=False))  # type: ignore[no-untyped-call]  # bytewax has no type here
            # what else is found by now is on its way
            left = found & {finding.key for finding in again.findings}
            if not left:
                say("everything is repaired")
                return True
            if time.monotonic() > deadline:
                say(f"{len(left)} documents still differ after {VERIFY_S:.0f} s")
                return False

    def _consumed(self) -> bool:
        with RabbitMQConnection(settings=self._settings.rabbitmq) as connection:
            channel = connection.get_channel()
            return all(
                channel.queue_declare(queue, passive=True).method.consumer_count
                for queue in self._queues
            )

    def _prune(self) -> None:
        """Forget old tombstones; of the embedded store only where no flow has it open, which
        does this by itself.
        """
        settings = self._settings
        try:
            with closing(open_client(settings.qdrant)) as client:
                before = time.time() - settings.tombstone_retention_days * 86400
                store = QdrantStore(client, DOCUMENT_TYPES, settings.qdrant.collections)
                pruned = store.prune_tombstones(before)
        except ConfigurationError:
            return
        if pruned:
            say(f"{pruned} tombstones pruned")


def _name(key: Key) -> str:
    return json.dumps(key)


def _unusable(change: CapturedChange, error: Exception) -> DeadLetter:
    return DeadLetter(b"", "reconcile", describe(error), type=change.collection)
