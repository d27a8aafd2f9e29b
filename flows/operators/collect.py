"""Steps of the collect flow: documents as they are stored, and the writing of them."""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import bytewax.operators as op
from bson import encode
from bson.errors import BSONError
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream

from models.collected import (
    Collected,
    Failed,
    Fate,
    Finished,
    Prepared,
    Present,
    Refused,
    Run,
    Step,
    Tally,
)
from models.documents import DOCUMENT_TYPES

LONGEST: Final = 15 * 2**20
"""Bytes of a document: MongoDB takes 16 MiB, and so does a broker, with what stands around it."""

_LONGEST_ID: Final = 800
_AT_A_TIME: Final = 100


class Store(Protocol):
    """Where documents and states are kept; see `connectors.mongodb.CollectedStore`."""

    def is_newest(self, run: Run) -> bool:
        """Whether no other run of the source has begun since."""
        ...

    def write(
        self, run: Run, formerly: Collection[str], documents: Sequence[Prepared]
    ) -> list[Fate]:
        """Write those that differ from what is stored."""
        ...

    def look(
        self, run: Run, formerly: Collection[str], type_: str, ids: Sequence[str]
    ) -> list[Fate]:
        """What has become of documents that an earlier run has written."""
        ...

    def prune(self, run: Run, formerly: Collection[str], seen: Collection[tuple[str, str]]) -> int:
        """Delete what is not listed any more."""
        ...

    def finish(self, run: Run, state: Mapping[str, str]) -> bool:
        """Store a state, unless a later run has begun."""
        ...


class Failure(NamedTuple):
    """What of a source could not be read: a document, or all of it."""

    source: str
    step: Refused | Failed


@dataclass(frozen=True)
class Readable:
    """The two streams of `readable`. An `errs` that nobody reads is dropped in silence."""

    oks: KeyedStream[Step]
    """Failures, too: what was refused is not to be deleted for not being there."""
    errs: KeyedStream[Failure]


@operator
def readable(step_id: str, up: KeyedStream[Step]) -> Readable:
    """Documents ready to be written, and what could not be read.

    :param up: what was read, by source
    :returns: `oks`, in the order of `up`, and `errs`
    """
    prepared = op.map("prepare", up, lambda item: (item[0], prepare(item[1])))
    return Readable(oks=prepared, errs=op.filter_map("failures", prepared, _failure))


def _failure(item: tuple[str, Step]) -> tuple[str, Failure] | None:
    source, step = item
    return (source, Failure(source, step)) if isinstance(step, Refused | Failed) else None


def prepare(step: Step) -> Step:
    """A document ready to be written, or refused; anything else as it is."""
    if not isinstance(step, Collected):
        return step
    if step.type not in DOCUMENT_TYPES:
        return Refused(step.type, step.key, f"there is no type {step.type:.40}")
    try:
        id_ = id_of(step.key)
        encoded = encode(step.fields)
    except (BSONError, ValueError, OverflowError, RecursionError, TypeError) as error:
        return Refused(step.type, step.key, f"MongoDB cannot hold it: {error}")
    if len(encoded) > LONGEST:
        return Refused(step.type, step.key, f"larger than {LONGEST // 2**20} MiB")
    return Prepared(step.type, id_, step.fields, hashlib.sha256(encoded).hexdigest()[:32])


def id_of(key: str) -> str:
    """The `_id` of what a key identifies: the key, or its beginning and a hash if it is long.

    :raises ValueError: it is empty, or no text
    """
    encoded = key.encode()
    if not encoded or "\0" in key:
        raise ValueError("nothing identifies it")
    if len(encoded) <= _LONGEST_ID:
        return key
    beginning = encoded[: _LONGEST_ID - 65].decode("utf-8", "ignore")
    return f"{beginning}#{hashlib.sha256(encoded).hexdigest()}"


def _id_or_none(key: str) -> str:
    try:
        return id_of(key)
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner of a source says of its documents."""

    prune: bool = False
    formerly: tuple[str, ...] = ()


@dataclass(slots=True)
class _Open:
    """A run that is being written."""

    run: Run
    policy: Policy
    tally: Tally
    seen: set[tuple[str, str]] = field(default_factory=set)
    missing: bool = False
    overtaken: bool = False


class Writer:
    """Writes what was read, source by source, each in the order in which it was read.

    1. the documents that differ from what is stored, once for each run
    2. at the end of a whole listing, the deletion of what it lacks, if the source says so
    3. the state of the run

    A kill after any write leaves the old state, so that the next run reads the same again, finds
    what was written unchanged, and goes on. A document that the source knows to be unchanged and
    that is gone makes the next run read everything.

    :param store: documents and states
    :param policies: of the sources, by name
    """

    def __init__(self, store: Store, policies: Mapping[str, Policy]) -> None:
        self._store = store
        self._policies = policies
        self._open: dict[str, _Open] = {}

    def __call__(self, items: list[tuple[str, Step]]) -> Iterator[tuple[str, Tally]]:
        """Write a batch; a tally of each source that is in it."""
        for source, steps in _by_source(items).items():
            for some in _slices(steps):
                if isinstance(some[0], Run):
                    policy = self._policies.get(source, Policy())
                    begun = Tally(source, succeeded=some[0].succeeded)
                    self._open[source] = _Open(some[0], policy, begun)
                elif source in self._open:
                    yield source, self._take(source, some)
                elif isinstance(some[0], Failed):  # not even its state could be read
                    yield source, Tally(source, failed=1, reason=some[0].reason, ended=True)

    def _take(self, source: str, steps: list[Step]) -> Tally:
        opened = self._open[source]
        last = steps[0]
        if isinstance(last, Finished):
            del self._open[source]
            self._finish(opened, last)
        elif isinstance(last, Failed):
            del self._open[source]
            self._count(opened, Fate("refused", last.reason))
            opened.tally = replace(opened.tally, ended=True)
        elif opened.overtaken or not self._store.is_newest(opened.run):
            opened.overtaken = True
        else:
            self._write(opened, steps)
        return opened.tally

    def _write(self, opened: _Open, steps: list[Step]) -> None:
        documents: list[Prepared] = []
        present: dict[str, list[str]] = {}
        for step in steps:
            if isinstance(step, Prepared):
                key = (step.type, step.id)
                # Offered twice, perhaps with two texts: the first counts, in every run.
                if key not in opened.seen:
                    documents.append(step)
            elif isinstance(step, Refused):
                self._count(opened, Fate("refused", step.reason))
                key = (step.type, _id_or_none(step.key))
            elif isinstance(step, Present):
                key = (step.type, _id_or_none(step.key))
                present.setdefault(step.type, []).append(key[1])
            else:
                continue
            opened.seen.add(key)
        own, run = opened.policy.formerly, opened.run
        opened.tally = replace(opened.tally, fetched=opened.tally.fetched + len(documents))
        for fate in self._store.write(run, own, documents) if documents else ():
            self._count(opened, fate)
        for type_, ids in present.items():
            for fate in self._store.look(run, own, type_, ids):
                self._count(opened, fate)

    def _count(self, opened: _Open, fate: Fate) -> None:
        tally = opened.tally
        if fate.outcome == "missing":
            opened.missing = True
        elif fate.outcome == "written":
            tally = replace(tally, written=tally.written + 1)
        elif fate.outcome in ("unchanged", "elsewhere"):
            tally = replace(tally, unchanged=tally.unchanged + 1)
        else:
            reason = tally.reason or fate.reason
            tally = replace(tally, failed=tally.failed + 1, reason=reason)
        opened.tally = tally

    def _finish(self, opened: _Open, finished: Finished) -> None:
        run, policy, tally = opened.run, opened.policy, opened.tally
        if opened.overtaken or not self._store.is_newest(run):
            opened.tally = replace(tally, ended=True, reason="another collector reads it, too")
            return
        # An empty listing is more often a fault of the source than its end.
        if policy.prune and finished.whole and any(id_ for _, id_ in opened.seen):
            deleted = self._store.prune(run, policy.formerly, opened.seen)
            tally = replace(tally, deleted=deleted)
        self._store.finish(run, {} if opened.missing else finished.state)
        opened.tally = replace(tally, ended=True, succeeded=time.time())


def _by_source(items: list[tuple[str, Step]]) -> dict[str, list[Step]]:
    steps: dict[str, list[Step]] = {}
    for source, step in items:
        steps.setdefault(source, []).append(step)
    return steps


def _slices(steps: list[Step]) -> Iterator[list[Step]]:
    """Documents in slices of a bounded length; each beginning and end of a run by itself."""
    some: list[Step] = []
    for step in steps:
        alone = isinstance(step, Run | Finished | Failed)
        if some and (alone or len(some) >= _AT_A_TIME):
            yield some
            some = []
        if alone:
            yield [step]
        else:
            some.append(step)
    if some:
        yield some
