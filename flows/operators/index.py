"""Index planning, and the one step that reads, embeds and writes.

Reading what is stored, embedding and writing are a single step per batch and worker: a lookup in
an operator of its own can run before the batch ahead of it has been written.
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Any, Callable, Protocol  # noqa: UP035

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream, operator

from flows.embedding.embedder import TextEmbedder, Vectors
from flows.metrics import CHUNKS_REUSED, DOCUMENTS, FRESHNESS
from flows.operators.plan import collapse, key_of, leftovers_of, plan, removal
from flows.operators.prepare import dead_at
from models import Chunk, DeadLetter, Version
from models.errors import ContentRefusedError, PointsGoneError
from models.identity import partition_of
from models.prepared import Prepared
from models.stored import Key, Stored, WritePlan

log = logging.getLogger(__name__)

CHUNKS_PER_WRITE = 256
"""New chunks that are embedded and then written at a time."""

RETRIES = 4
"""How often a write is planned anew because points that it updates were deleted meanwhile."""

TRUST_S = 0.1
"""How long what was read of a document is relied upon before it is read again."""


class Store(Protocol):
    """What the step needs of the vector store. Each call returns when its writes are applied."""

    def read(self, keys: Sequence[Key], list_chunks: Collection[Key]) -> dict[Key, Stored]:
        """What is stored of each document; for those in `list_chunks` with all its chunks."""
        ...

    def live(self, type_: str, older_than: Version) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Records of a type whose version is at most `older_than`."""
        ...

    def fence_type(self, type_: str, version: Version) -> None:
        """Remember the drop of a whole collection."""
        ...

    def upsert_chunks(self, chunks: Sequence[tuple[WritePlan, Chunk]], vectors: Vectors) -> None:
        """Write new chunks with their vectors, of shape (len(chunks), dimension)."""
        ...

    def finish(self, plans: Sequence[WritePlan]) -> None:
        """Everything behind the new chunks, record or tombstone included."""
        ...

    def delete_chunks(self, chunks: Sequence[tuple[Key, str]]) -> None:
        """Delete chunks by document and id."""
        ...


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

        :returns: one result for each item, not in the order of the items
        """
        results: list[Indexed | DeadLetter] = []
        for run in _runs(batch):
            if run[0].event.op == "drop":
                results.append(self._drop(run[0]))
            else:
                results += self._apply(run)
        for result in results:
            if isinstance(result, Indexed):
                DOCUMENTS.labels(result.outcome).inc()
        return results

    def _apply(self, run: list[Prepared]) -> list[Indexed | DeadLetter]:
        newest = collapse(run)
        superseded = [
            Indexed(key_of(p), "superseded")
            for p in run
            if newest[key_of(p)].delivery is not p.delivery
        ]
        # A redelivered change may have been half written by a process that was killed: chunks
        # can exist that no record names. Everybody else's chunks are named by their record.
        unsure = {key_of(p) for p in run if p.delivery.redelivered or p.event.op == "repair"}
        return [*superseded, *self._write(list(newest.values()), unsure)]

    def _write(self, changes: list[Prepared], unsure: set[Key]) -> list[Indexed | DeadLetter]:
        """Read, embed and write; on a refusal once more one by one, so that only the document
        which is refused becomes a dead letter.
        """
        keys = {key_of(change) for change in changes}
        try:
            for known_of in (unsure, *[keys] * RETRIES):
                with suppress(PointsGoneError):
                    return list(self._write_together(changes, known_of))
            raise ContentRefusedError("chunks of it disappear as often as it is written")
        except (ContentRefusedError, ValueError) as error:
            if len(changes) > 1:
                return [result for change in changes for result in self._write([change], keys)]
            return [dead_at("index")(changes[0], error), *self._retract(changes[0], keys)]

    def _retract(self, change: Prepared, keys: set[Key]) -> Iterable[Indexed]:
        if change.event.foreign:
            return []
        return self._write_together([_without_document(change)], keys)

    def _write_together(self, changes: list[Prepared], unsure: set[Key]) -> list[Indexed]:
        stored = self._store.read([key_of(change) for change in changes], unsure)
        plans: dict[Key, WritePlan] = {}
        results: list[Indexed] = []
        leftovers: list[tuple[Key, str]] = []
        for change in changes:
            key = key_of(change)
            plan_ = plan(change, stored[key], self._embedder.name)
            if plan_ is None:
                results.append(Indexed(key, "stale"))
                leftovers += leftovers_of(key, stored[key])
            else:
                plans[key] = plan_
        began = time.monotonic()
        self._embed_and_upsert(list(plans.values()))
        overtaken = self._changed(plans, stored) if time.monotonic() - began > TRUST_S else set()
        for key in overtaken:
            del plans[key]
        self._store.finish(list(plans.values()))
        self._store.delete_chunks(leftovers)
        results += [_applied(plan_) for plan_ in plans.values()]
        _observe_freshness(change for change in changes if key_of(change) in plans)
        if overtaken:
            again = [change for change in changes if key_of(change) in overtaken]
            results += self._write_together(again, overtaken)
        return results

    def _changed(self, keys: Collection[Key], before: Mapping[Key, Stored]) -> set[Key]:
        """Documents that somebody else has written since they were read.

        A queue has one consumer, but one that was cut off from the broker goes on with what it
        has, while its successor already writes what came behind that.
        """
        now = self._store.read(list(keys), ())
        return {key for key in keys if now[key].version != before[key].version}

    def _embed_and_upsert(self, plans: Sequence[WritePlan]) -> None:
        missing = [(plan_, chunk) for plan_ in plans for chunk in plan_.upserts]
        for start in range(0, len(missing), CHUNKS_PER_WRITE):
            piece = missing[start : start + CHUNKS_PER_WRITE]
            texts = list(dict.fromkeys(chunk.content for _, chunk in piece))
            try:
                vectors = self._embedder.encode(texts)
            except (ValueError, TypeError, IndexError) as error:
                raise ContentRefusedError(f"the model refused a text: {error}") from error
            if not np.isfinite(vectors).all():
                raise ContentRefusedError("the model made a vector that is not finite")
            row = {text: index for index, text in enumerate(texts)}
            order = [row[chunk.content] for _, chunk in piece]
            self._store.upsert_chunks(piece, vectors[order])

    def _drop(self, change: Prepared) -> Indexed:
        """Remove every document of the collection that is not newer than its drop.

        Fence first: killed behind it, the drop is redelivered and goes on; meanwhile nothing
        older can come back.
        """
        event = change.event
        self._store.fence_type(event.type, event.version)
        removals = (
            removal(key, event.version, record.get("chunk_ids", ()))
            for key, record in list(self._store.live(event.type, event.version))
            if self._owns(change.delivery.queue, key)
        )
        for some in _slices(removals, 64):
            self._store.finish(some)
        return Indexed(Key(event.type, ""), "dropped")

    def _owns(self, queue: str, key: Key) -> bool:
        count = len(self._queues)
        return count < 2 or self._queues[partition_of(*key, count)] == queue


def _applied(plan_: WritePlan) -> Indexed:
    CHUNKS_REUSED.inc(plan_.kept)
    outcome = "refreshed" if plan_.refresh_only else "upserted"
    if plan_.record is None:
        outcome = "removed"
    return Indexed(plan_.key, outcome, len(plan_.upserts), plan_.kept)


def _observe_freshness(changes: Iterable[Prepared]) -> None:
    now_ms = time.time() * 1000
    for change in changes:
        if change.event.committed_ms and change.event.op != "snapshot":
            FRESHNESS.observe(max(0.0, now_ms - change.event.committed_ms) / 1000)


def _without_document(change: Prepared) -> Prepared:
    return Prepared(change.delivery, change.event, failed=True)


def _runs(batch: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """Cut a batch at drops, which no change may pass."""
    run: list[Prepared] = []
    for change in batch:
        if change.event.op == "drop":
            if run:
                yield run
            yield [change]
            run = []
        else:
            run.append(change)
    if run:
        yield run


def _slices(items: Iterable[WritePlan], size: int) -> Iterator[list[WritePlan]]:
    some: list[WritePlan] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


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
