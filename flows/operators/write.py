"""Reading what is stored, embedding and writing, for several documents together.

The steps carry the names that docs/design.md gives them (Writes of a batch).
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from typing_extensions import assert_never

from flows.embedding.embedder import TextEmbedder, Vectors
from flows.operators.plan import plan
from flows.operators.store import Store
from models.errors import ModelRefusedError
from models.fresh import embedded_text
from models.metrics import CHUNKS_REUSED, FRESHNESS
from models.plans import RefreshPlan, RemovalPlan, UpsertPlan, WritePlan
from models.prepared import Removal, Upsert
from models.sparse import chunk_weights
from models.stored import Key, Stored

CHUNKS_PER_WRITE = 256
"""New chunks that are embedded and then written at a time."""

TRUST_S = 0.1
"""How long what was read of a document is relied upon before it is read again."""


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


class Writer:
    """Carries out the steps of a write.

    :param store: the vector store
    :param embedder: texts to vectors
    """

    def __init__(self, store: Store, embedder: TextEmbedder) -> None:
        self._store = store
        self._embedder = embedder

    def write(self, changes: Sequence[Upsert | Removal], unsure: Collection[Key]) -> list[Indexed]:
        """Bring documents up to changes; all of it is applied when this returns.

        :param changes: one for each document
        :param unsure: documents whose record is not to be trusted
        :raises ContentRefusedError: the model or the store refuses one of them
        :raises PointsGoneError: what is stored is not what a record says; write them as `unsure`
        """
        stored = self._read(changes, unsure)  # W1
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
        self.finish(applied, leftovers)
        results += [_applied(plan_) for plan_ in applied]
        _observe_freshness(c for c in changes if c.key in plans and c.key not in overtaken)
        if overtaken:
            again = [change for change in changes if change.key in overtaken]
            results += self.write(again, overtaken)
        return results

    def finish(self, plans: Sequence[WritePlan], leftovers: Sequence[tuple[Key, str]] = ()) -> None:
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

    def _read(
        self, changes: Sequence[Upsert | Removal], unsure: Collection[Key]
    ) -> dict[Key, Stored]:
        """The stored state; with all its chunks where the word of a record is not to be taken.

        A snapshot mends what somebody has done to the store: chunks that a record names may be
        gone.
        """
        stored = self._store.read([change.key for change in changes], unsure)
        rows = {change.key for change in changes if change.event.op == "snapshot"}
        hollow = self._store.hollow({key: stored[key].named for key in rows.difference(unsure)})
        suspect = {key for key in stored if stored[key].suspect or key in hollow}.difference(unsure)
        return {**stored, **self._store.read(list(suspect), suspect)} if suspect else stored

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
            texts = [embedded_text(chunk.payload) for chunk in piece]
            self._store.upsert_chunks(piece, self._embed(texts), list(map(chunk_weights, texts)))

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
