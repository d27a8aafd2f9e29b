"""Index planning, and the one step that reads, embeds and writes.

Reading what is stored, embedding and writing are a single step per batch and worker: a lookup in
an operator of its own can run before the batch ahead of it has been written.
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

# On Python 3.10 Bytewax cannot read collections.abc.Callable in an operator's signature.
from typing import Any, Callable, Protocol  # noqa: UP035

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream, operator

from flows.operators.embed import TextEmbedder, Vectors
from flows.operators.metrics import CHUNKS_REUSED, DOCUMENTS, FRESHNESS
from flows.operators.prepare import dead_at
from models import Chunk, DeadLetter, Document
from models.identity import partition_of
from models.points import Key, Stored, WritePlan
from models.prepared import Prepared

log = logging.getLogger(__name__)

CHUNKS_PER_WRITE = 256
"""New chunks that are embedded and then written at a time."""

METADATA_FIELDS = ("author_id", "platform", "link", "name")


class Store(Protocol):
    """What the step needs of the vector store. Each call returns when its writes are applied."""

    def read(self, keys: Sequence[Key], list_chunks: Collection[Key]) -> dict[Key, Stored]:
        """What is stored of each document; for those in `list_chunks` with all its chunks."""
        ...

    def live(self, type_: str, older_than: int) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        """Records of a type whose version is at most `older_than`."""
        ...

    def fence_type(self, type_: str, version: int) -> None:
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


class Rejected(Exception):
    """The store or the model refused one document; another attempt would end the same."""


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
    :param rejections: exceptions by which the store refuses a request for its content
    :param queues: one for each partition; a drop, which comes by all of them, then removes by each
        queue the documents of that queue only, in their order
    """

    def __init__(
        self,
        store: Store,
        embedder: TextEmbedder,
        rejections: tuple[type[Exception], ...] = (ValueError,),
        queues: Sequence[str] = (),
    ) -> None:
        self._queues = queues
        self._store = store
        self._embedder = embedder
        self._rejections: tuple[type[Exception], ...] = (*rejections, Rejected)

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
            Indexed(_key(p), "superseded")
            for p in run
            if newest[_key(p)].delivery is not p.delivery
        ]
        # A redelivered change may have been half written by a process that was killed: chunks
        # can exist that no record names. Everybody else's chunks are named by their record.
        unsure = {_key(p) for p in run if p.delivery.redelivered or p.event.op == "repair"}
        return [*superseded, *self._write(list(newest.values()), unsure)]

    def _write(self, changes: list[Prepared], unsure: set[Key]) -> list[Indexed | DeadLetter]:
        """Read, embed and write; on a refusal once more one by one, so that only the document
        which is refused becomes a dead letter.
        """
        try:
            return list(self._write_together(changes, unsure))
        except self._rejections as error:
            keys = {_key(change) for change in changes}
            if len(changes) > 1:
                return [result for change in changes for result in self._write([change], keys)]
            return [dead_at("index")(changes[0], error), *self._retract(changes[0], keys)]

    def _retract(self, change: Prepared, keys: set[Key]) -> Iterable[Indexed]:
        if not change.event.fenced:
            return []
        return self._write_together([_without_document(change)], keys)

    def _write_together(self, changes: list[Prepared], unsure: set[Key]) -> list[Indexed]:
        stored = self._store.read([_key(change) for change in changes], unsure)
        plans: list[WritePlan] = []
        results: list[Indexed] = []
        fresh: list[Prepared] = []
        leftovers: list[tuple[Key, str]] = []
        for change in changes:
            key = _key(change)
            plan_ = plan(change, stored[key], self._embedder.name)
            if plan_ is None:
                results.append(Indexed(key, "stale"))
                leftovers += _leftovers(key, stored[key])
                continue
            plans.append(plan_)
            fresh.append(change)
            results.append(Indexed(key, _outcome(plan_), len(plan_.upserts), plan_.kept))
            CHUNKS_REUSED.inc(plan_.kept)
        self._embed_and_upsert(plans)
        self._store.finish(plans)
        self._store.delete_chunks(leftovers)
        now_ms = time.time() * 1000
        for change in fresh:
            if change.event.committed_ms and change.event.op != "snapshot":
                FRESHNESS.observe(max(0.0, now_ms - change.event.committed_ms) / 1000)
        return results

    def _embed_and_upsert(self, plans: Sequence[WritePlan]) -> None:
        missing = [(plan_, chunk) for plan_ in plans for chunk in plan_.upserts]
        for start in range(0, len(missing), CHUNKS_PER_WRITE):
            piece = missing[start : start + CHUNKS_PER_WRITE]
            texts = list(dict.fromkeys(chunk.content for _, chunk in piece))
            try:
                vectors = self._embedder.encode(texts)
            except (ValueError, TypeError, IndexError) as error:
                raise Rejected(f"the model refused a text: {error}") from error
            if not np.isfinite(vectors).all():
                raise Rejected("the model made a vector that is not finite")
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
            _removal(key, event.version, record.get("chunk_ids", ()))
            for key, record in list(self._store.live(event.type, event.version))
            if self._owns(change.delivery.queue, key)
        )
        for some in _slices(removals, 64):
            self._store.finish(some)
        return Indexed(Key(event.type, ""), "dropped")

    def _owns(self, queue: str, key: Key) -> bool:
        count = len(self._queues)
        return count < 2 or self._queues[partition_of(*key, count)] == queue


def plan(change: Prepared, stored: Stored, model: str) -> WritePlan | None:
    """The writes that bring a document from what is stored to a change.

    :param model: name of the embedder; chunks of another one are embedded again
    :returns: None where something newer is stored
    """
    event = change.event
    version = event.version if event.fenced else max(event.version, stored.version)
    if version < stored.version:
        return None
    key = _key(change)
    record = stored.record or {}
    old = stored.chunks
    document = change.document
    if document is None:
        return _removal(key, version, old if old is not None else record.get("chunk_ids", ()))

    metadata = document.metadata()
    ids = tuple(chunk.id for chunk in change.chunks)
    if old is None:
        same_model = record.get("model") == model
        old = {
            id_: {**record, "position": position, "model": model if same_model else None}
            for position, id_ in enumerate(record.get("chunk_ids", ()))
        }
    upserts = tuple(c for c in change.chunks if c.id not in old or old[c.id]["model"] != model)
    written = {chunk.id for chunk in upserts}
    kept = [chunk for chunk in change.chunks if chunk.id not in written]
    retagged = tuple(c.id for c in kept if _tags(old[c.id]) != _tags(metadata))
    moved = {c.id: c.position for c in kept if old[c.id]["position"] != c.position}
    alive = set(ids)
    deletes = tuple(id_ for id_ in old if id_ not in alive)
    hash_ = content_hash(document)
    return WritePlan(
        key=key,
        version=version,
        upserts=upserts,
        metadata=metadata,
        model=model,
        retagged=retagged,
        moved=moved,
        deletes=deletes,
        kept=len(kept),
        record={
            **metadata,
            "cleaned_content": cleaned_content(document),
            "content_hash": hash_,
            "chunk_ids": list(ids),
            "model": model,
            "version": version,
        },
        refresh_only=(
            event.op != "repair"
            and not (upserts or retagged or moved or deletes)
            and record.get("content_hash") == hash_
            and record.get("model") == model
            and list(record.get("chunk_ids", ())) == list(ids)
            and _tags(record) == _tags(metadata)
        ),
    )


def collapse(run: Iterable[Prepared]) -> dict[Key, Prepared]:
    """The newest change of each document; of equal versions, the last.

    A change without a version of its own is as new as the newest one before it, and takes its
    version over.
    """
    newest: dict[Key, Prepared] = {}
    for change in run:
        key = _key(change)
        other = newest.get(key)
        if other is None or change.event.version >= other.event.version:
            newest[key] = change
        elif not change.event.fenced:
            event = replace(change.event, version=other.event.version)
            newest[key] = replace(change, event=event)
    return newest


def _leftovers(key: Key, stored: Stored) -> list[tuple[Key, str]]:
    """Chunks that no record names: a change was half written, and is older than what came since."""
    named = set((stored.record or {}).get("chunk_ids", ()))
    return [(key, id_) for id_ in stored.chunks or () if id_ not in named]


def _removal(key: Key, version: int, chunk_ids: Iterable[str]) -> WritePlan:
    return WritePlan(key=key, version=version, deletes=tuple(chunk_ids))


def _without_document(change: Prepared) -> Prepared:
    return Prepared(change.delivery, change.event, failed=True)


def _key(change: Prepared) -> Key:
    return Key(change.event.type, change.event.entry_id)


def _tags(payload: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(payload.get(field) for field in METADATA_FIELDS)


def _outcome(plan_: WritePlan) -> str:
    if plan_.record is None:
        return "removed"
    return "refreshed" if plan_.refresh_only else "upserted"


def cleaned_content(document: Document) -> str:
    """The text of a record: all sections, verbatim ones below their path."""
    return "\n\n".join(
        f"{section.path}\n{section.text}" if section.verbatim else section.text
        for section in document.sections
    )


def content_hash(document: Document) -> str:
    """SHA-256, in hex, over paths and texts of all sections."""
    digest = sha256()
    for section in document.sections:
        for part in (section.path.encode(), section.text.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


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
