"""The one step that reads, embeds and writes.

Reading what is stored, embedding and writing are a single step per batch and worker: a lookup in
an operator of its own can run before the batch ahead of it has been written.

The steps of a write carry the names that docs/design.md gives them (Writes of a batch).
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Callable  # noqa: UP035

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream, operator
from typing_extensions import assert_never

from flows.embedding.embedder import TextEmbedder, Vectors
from flows.operators.plan import collapse, plan
from flows.operators.prepare import dead_at, retract
from flows.operators.store import Store
from models import DeadLetter
from models.errors import ContentRefusedError, ModelRefusedError, PointsGoneError
from models.identity import partition_of
from models.metrics import CHUNKS_REUSED, DOCUMENTS, FRESHNESS
from models.plans import RefreshPlan, RemovalPlan, UpsertPlan, WritePlan
from models.prepared import Drop, Prepared, Removal, Upsert
from models.stored import Key, Stored

log = logging.getLogger(__name__)

CHUNKS_PER_WRITE = 256
"""New chunks that are embedded and then written at a time."""

REMOVALS_PER_WRITE = 64
"""Documents of a dropped collection that are removed at a time."""

RETRIES = 4
"""How often a write is planned anew because points that it updates were deleted meanwhile."""

TRUST_S = 0.1
"""How long what was read of a document is relied upon before it is read again."""

_REFUSALS = (ContentRefusedError, PointsGoneError, ValueError)


@dataclass(frozen=True, slots=True)
class Indexed:
    """A change that has been applied, or that was older than what is stored."""

    key: Key
    outcome: str
    """upserted, refreshed, removed, stale, superseded or dropped."""
    embedded: int = 0
    """Chunks given to the model."""
    kept: int = 0
    """Stored chunks that stayed."""


class Indexer:
    """Applies batches of prepared changes to the store.

    :param store: the vector store
    :param embedder: texts to vectors
    :param queues: one for each partition; a drop, which comes by all of them, then removes by each
        queue the documents of that queue only, in their order
    """

    def __init__(
        self,
        store: Store,
        embedder: TextEmbedder,
        queues: Sequence[str] = (),
    ) -> None:
        self._queues = queues
        self._store = store
        self._embedder = embedder

    def __call__(self, batch: list[Prepared]) -> list[Indexed | DeadLetter]:
        """Apply a batch in order.

        :returns: one result for each item, not in the order of the items, and one more for each
            that was dead-lettered and retracted
        """
        results: list[Indexed | DeadLetter] = []
        for run in _runs(batch):
            results += [self._drop(run)] if isinstance(run, Drop) else self._apply(run)
        for result in results:
            if isinstance(result, Indexed):
                DOCUMENTS.labels(result.outcome).inc()
        return results

    def _apply(self, run: list[Upsert | Removal]) -> list[Indexed | DeadLetter]:
        newest = collapse(run)
        superseded = [
            Indexed(change.key, "superseded")
            for change in run
            if newest[change.key].delivery is not change.delivery
        ]
        # A redelivered change may have been half written by a process that was killed: chunks
        # can exist that no record names. Everybody else's chunks are named by their record.
        unsure = {c.key for c in run if c.delivery.redelivered or c.event.op == "repair"}
        return [*superseded, *self._write(list(newest.values()), unsure)]

    def _write(
        self, changes: list[Upsert | Removal], unsure: set[Key]
    ) -> list[Indexed | DeadLetter]:
        """Read, embed and write; on a refusal once more one by one, so that only the document
        which is refused becomes a dead letter.
        """
        keys = {change.key for change in changes}
        try:
            for known_of in (unsure, *[keys] * RETRIES):
                with suppress(PointsGoneError):
                    return list(self._write_together(changes, known_of))
            raise ContentRefusedError("chunks of it disappear as often as it is written")
        except (ContentRefusedError, ValueError) as error:
            if len(changes) > 1:
                return [result for change in changes for result in self._write([change], keys)]
            return [dead_at("index")(changes[0], error), *self._tidy_up(changes[0], error)]

    def _tidy_up(self, change: Upsert | Removal, error: Exception) -> Sequence[Indexed]:
        """Leave no part of a change that was refused; nothing of this may be refused loudly."""
        try:
            removal = retract(change) if isinstance(error, ModelRefusedError) else None
            if removal is not None:
                return self._write_together([removal], {change.key})
            self._take_back(change)
        except _REFUSALS as again:
            log.warning(
                "%s %r: parts of a refused change may be left, which make reconcile removes: %s",
                *change.key,
                again,
            )
        return []

    def _take_back(self, change: Upsert | Removal) -> None:
        """Delete what a refused change has written, and nothing that was there before."""
        key = change.key
        stored = self._store.read([key], {key})[key]
        listed = stored.chunks or {}
        if listed.keys() >= set(stored.named):
            self._store.delete_chunks([(key, id_) for id_ in stored.unnamed])
            return
        # Refused after F3: the chunks of the older state are gone, so those of the new one stay.
        order = [chunk.id for chunk in change.chunks] if isinstance(change, Upsert) else []
        self._store.set_chunk_ids(key, list(dict.fromkeys([*filter(listed.get, order), *listed])))

    def _write_together(
        self, changes: Sequence[Upsert | Removal], unsure: set[Key]
    ) -> list[Indexed]:
        # W1
        stored = self._store.read([change.key for change in changes], unsure)
        plans: dict[Key, WritePlan] = {}
        results: list[Indexed] = []
        leftovers: list[tuple[Key, str]] = []
        for change in changes:
            plan_ = plan(change, stored[change.key], self._embedder.name)
            if plan_ is None:
                results.append(Indexed(change.key, "stale"))
                leftovers += [(change.key, id_) for id_ in stored[change.key].unnamed]
            else:
                plans[change.key] = plan_
        began = time.monotonic()
        self._embed_and_upsert(plans.values())  # W2
        overtaken: set[Key] = set()
        if time.monotonic() - began > TRUST_S:
            overtaken = self._changed(plans, stored)  # W3
        applied = [plan_ for key, plan_ in plans.items() if key not in overtaken]
        self._finish(applied, leftovers)
        results += [_applied(plan_) for plan_ in applied]
        _observe_freshness(c for c in changes if c.key in plans and c.key not in overtaken)
        if overtaken:
            again = [change for change in changes if change.key in overtaken]
            results += self._write_together(again, overtaken)
        return results

    def _finish(
        self, plans: Sequence[WritePlan], leftovers: Sequence[tuple[Key, str]] = ()
    ) -> None:
        """Everything after the new chunks, in the one order that a crash cannot spoil."""
        upserts = [plan_ for plan_ in plans if isinstance(plan_, UpsertPlan)]
        refreshes = [plan_ for plan_ in plans if isinstance(plan_, RefreshPlan)]
        removals = [plan_ for plan_ in plans if isinstance(plan_, RemovalPlan)]
        gone = [
            (plan_.key, id_)
            for plan_ in plans
            if not isinstance(plan_, RefreshPlan)
            for id_ in plan_.gone
        ]
        store = self._store
        store.bury(removals)  # F1
        store.update_chunks(upserts)  # F2
        store.delete_chunks([*gone, *leftovers])  # F3
        store.refresh_records(refreshes)  # F4
        store.upsert_records(upserts)  # F5
        store.delete_records([plan_.key for plan_ in removals])  # F6

    def _changed(self, keys: Collection[Key], before: Mapping[Key, Stored]) -> set[Key]:
        """Documents that somebody else has written since they were read.

        A queue has one consumer, but one that was cut off from the broker goes on with what it
        has, while its successor already writes what came after that.
        """
        now = self._store.read(list(keys), ())
        return {key for key in keys if now[key].version != before[key].version}

    def _embed_and_upsert(self, plans: Iterable[WritePlan]) -> None:
        missing = (chunk for plan_ in plans if isinstance(plan_, UpsertPlan) for chunk in plan_.new)
        while piece := list(islice(missing, CHUNKS_PER_WRITE)):
            texts = [chunk.payload["content"] for chunk in piece]
            self._store.upsert_chunks(piece, self._embed(texts))

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text; the same text goes to the model once."""
        row = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        try:
            vectors = self._embedder.encode(list(row))
        except (ValueError, TypeError, IndexError) as error:
            raise ModelRefusedError(f"the model refused a text: {error}") from error
        if not np.isfinite(vectors).all():
            raise ModelRefusedError("the model made a vector that is not finite")
        return np.asarray(vectors[[row[text] for text in texts]])

    def _drop(self, drop: Drop) -> Indexed | DeadLetter:
        """Remove every document of the collection that is not newer than its drop.

        Fence first: killed after it, the drop is redelivered and goes on; meanwhile nothing
        older can come back.
        """
        type_, version = drop.key.type, drop.event.version
        try:
            self._store.fence_type(type_, version)
            removals = iter(
                [
                    RemovalPlan(key, version, tuple(record.get("chunk_ids", ())))
                    for key, record in self._store.live(type_, version)
                    if self._owns(drop.delivery.queue, key)
                ]
            )
            while some := list(islice(removals, REMOVALS_PER_WRITE)):
                self._finish(some)
        except _REFUSALS as error:
            return dead_at("index")(drop, error)
        return Indexed(drop.key, "dropped")

    def _owns(self, queue: str, key: Key) -> bool:
        count = len(self._queues)
        return count < 2 or self._queues[partition_of(*key, count)] == queue


def _applied(plan_: WritePlan) -> Indexed:
    if isinstance(plan_, RemovalPlan):
        return Indexed(plan_.key, "removed")
    CHUNKS_REUSED.inc(plan_.kept)
    if isinstance(plan_, RefreshPlan):
        return Indexed(plan_.key, "refreshed", 0, plan_.kept)
    if isinstance(plan_, UpsertPlan):
        return Indexed(plan_.key, "upserted", len(plan_.new), plan_.kept)
    assert_never(plan_)


def _observe_freshness(changes: Iterable[Upsert | Removal]) -> None:
    now_ms = time.time() * 1000
    for change in changes:
        if change.event.committed_ms and change.event.op != "snapshot":
            FRESHNESS.observe(max(0.0, now_ms - change.event.committed_ms) / 1000)


def _runs(batch: Iterable[Prepared]) -> Iterator[Drop | list[Upsert | Removal]]:
    """Cut a batch at drops, which no change may pass."""
    run: list[Upsert | Removal] = []
    for change in batch:
        if not isinstance(change, Drop):
            run.append(change)
            continue
        if run:
            yield run
        yield change
        run = []
    if run:
        yield run


IndexStep = Callable[[list[Prepared]], list[Indexed | DeadLetter]]


@dataclass(frozen=True)
class IndexOut:
    """The two streams of `index`."""

    oks: Stream[Indexed]
    errs: Stream[DeadLetter]


@operator
def index(step_id: str, up: Stream[Prepared], indexer: IndexStep) -> IndexOut:
    """Embed and index each batch, in one step.

    :returns: `oks` for what was applied, `errs` for what the model or the store refused
    """
    results = op.flat_map_batch("apply", up, indexer)
    split = op.branch("split", results, lambda result: isinstance(result, DeadLetter))
    return IndexOut(oks=split.falses, errs=split.trues)  # type: ignore[arg-type]
