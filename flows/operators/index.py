"""The one step that reads, embeds and writes.

Reading what is stored, embedding and writing are a single step per batch and worker: a lookup in
an operator of its own can run before the batch ahead of it has been written.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Callable  # noqa: UP035

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from flows.embedding.embedder import TextEmbedder
from flows.operators.plan import collapse, is_as_recorded
from flows.operators.prepare import dead_at, retract
from flows.operators.store import Store
from flows.operators.write import Indexed, Writer
from models import DeadLetter
from models.errors import ContentRefusedError, ModelRefusedError, PointsGoneError
from models.identity import partition_of
from models.metrics import DOCUMENTS
from models.plans import RemovalPlan
from models.prepared import Drop, Prepared, Removal, Upsert
from models.stored import Key, Stored

log = logging.getLogger(__name__)

REMOVALS_PER_WRITE = 64
"""Documents of a dropped collection that are removed at a time."""

RETRIES = 4
"""How often a write is planned anew because points that it updates were deleted meanwhile."""

_MENDING = ("snapshot", "repair")
_REFUSALS = (ContentRefusedError, PointsGoneError, ValueError)


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
        self._writer = Writer(store, embedder)

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
        # can exist that no record names. A row that was read from MongoDB, not from its changes, is
        # there to mend what is wrong. Everybody else's chunks are those that their record names.
        unsure = {c.key for c in run if c.delivery.redelivered or c.event.op in _MENDING}
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
                    return list(self._writer.write(changes, known_of))
            raise ContentRefusedError("chunks of it disappear as often as it is written")
        except (ContentRefusedError, ValueError) as error:
            if len(changes) > 1:
                return [result for change in changes for result in self._write([change], keys)]
            return [dead_at("index")(changes[0], error), *self._clear_up(changes[0], error)]

    def _clear_up(self, change: Upsert | Removal, error: Exception) -> list[Indexed]:
        """Leave no part of a change that was refused."""
        removal = retract(change) if isinstance(error, ModelRefusedError) else None
        if removal is None:
            self._take_back(change.key)
            return []
        try:
            return self._writer.write([removal], {change.key})
        except _REFUSALS as again:
            _warn(change.key, again)
            return []

    def _take_back(self, key: Key) -> None:
        """Delete what a refused change has written, and nothing that was there before.

        Where it was refused after F3, chunks of the older state are gone. Then those of the new
        one stay. The record is marked where it is not true any more, so that the next change goes
        by what is really there.
        """
        try:
            stored = self._store.read([key], {key})[key]
            true = is_as_recorded(stored)
            if set(stored.named) <= set(stored.present):
                true &= self._delete_unnamed(key, stored)
            if stored.record is not None and not true:
                self._store.suspect(key)
        except _REFUSALS as again:
            _warn(key, again)

    def _delete_unnamed(self, key: Key, stored: Stored) -> bool:
        try:
            self._store.delete_chunks([(key, id_) for id_ in stored.unnamed])
        except _REFUSALS as again:
            _warn(key, again)
            return False
        return True

    def _drop(self, drop: Drop) -> Indexed | DeadLetter:
        """Remove every document of the collection that is not newer than its drop.

        Fence first: killed after it, the drop is redelivered and goes on; meanwhile nothing
        older can come back.
        """
        try:
            self._store.fence_type(drop.key.type, drop.event.version)
            removals = iter(list(self._removals(drop)))
            refusals = []
            while some := list(islice(removals, REMOVALS_PER_WRITE)):
                refusals += self._remove(some)
        except _REFUSALS as error:
            refusals = [error]
        return dead_at("index")(drop, refusals[0]) if refusals else Indexed(drop.key, "dropped")

    def _removals(self, drop: Drop) -> Iterator[RemovalPlan]:
        for key, record in self._store.live(drop.key.type, drop.event.version):
            if self._owns(drop.delivery.queue, key):
                stored = Stored(record=record)
                if stored.suspect:
                    stored = self._store.read([key], {key})[key]
                yield RemovalPlan(key, drop.event.version, stored.present)

    def _remove(self, removals: list[RemovalPlan]) -> list[Exception]:
        """Remove documents, one by one if any is refused; returns the refusals."""
        try:
            self._writer.finish(removals)
        except _REFUSALS as error:
            if len(removals) > 1:
                return [refusal for removal in removals for refusal in self._remove([removal])]
            self._take_back(removals[0].key)
            return [error]
        return []

    def _owns(self, queue: str, key: Key) -> bool:
        count = len(self._queues)
        return count < 2 or self._queues[partition_of(*key, count)] == queue


def _warn(key: Key, refusal: Exception) -> None:
    log.warning(
        "%s %r: parts of a refused change may be left, which make reconcile removes: %s",
        *key,
        refusal,
    )


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
    return IndexOut(oks=split.falses, errs=split.trues)  # type: ignore[arg-type]  # branch narrows no falses
