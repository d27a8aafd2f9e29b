"""The step of the collect flow that writes, and that knows when a source has been read."""

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from flows.operators.readable import id_of
from models.collected import (
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

    def prune(self, run: Run, formerly: Collection[str], seen: Callable[[str, str], bool]) -> int:
        """Delete what is not listed any more."""
        ...

    def finish(self, run: Run, state: Mapping[str, str]) -> bool:
        """Store a state, unless a later run has begun."""
        ...


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


class _Seen:
    """Which documents a run has come by; of a million of them it takes 100 MB."""

    def __init__(self) -> None:
        self._marks: set[bytes] = set()

    def add(self, type_: str, id_: str) -> None:
        self._marks.add(self._mark(type_, id_))

    def __call__(self, type_: str, id_: str) -> bool:
        return self._mark(type_, id_) in self._marks

    def __bool__(self) -> bool:
        return bool(self._marks)

    @staticmethod
    def _mark(type_: str, id_: str) -> bytes:
        return hashlib.blake2b(f"{type_}/{id_}".encode(), digest_size=10).digest()


@dataclass(slots=True)
class _Open:
    """A run that is being written."""

    run: Run
    policy: Policy
    tally: Tally
    seen: _Seen = field(default_factory=_Seen)
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
                # Offered twice, perhaps with two texts: the first counts, in every run.
                if not opened.seen(step.type, step.id):
                    documents.append(step)
                    opened.seen.add(step.type, step.id)
            elif isinstance(step, Present | Refused):
                id_ = _id_or_none(step.key)
                if isinstance(step, Refused):
                    self._count(opened, Fate("refused", step.reason))
                else:
                    present.setdefault(step.type, []).append(id_)
                if id_:
                    opened.seen.add(step.type, id_)
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
        if policy.prune and finished.whole and opened.seen:
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
