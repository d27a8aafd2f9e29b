"""Generated histories: whatever is written, killed, repeated or late, the store converges.

A model of MongoDB, of the capture and of the broker stands in front of the real steps, the real
`Indexer` and an embedded store. What it can do is what the real ones do, and no more:

- the changes of a document reach one queue in their order; a transaction's share a cluster time,
  and are told apart by their ordinals
- an `update` carries the document as it is when the change is read, not when it was made
- a capture that restarts repeats everything behind its checkpoint; a snapshot goes on behind its
  last row; lost history begins another one, whose rows carry the version read before the scan
- a publisher that reconnects repeats what was not confirmed, and any message may come once more
  much later
- a consumer that dies gets everything again that it had not acknowledged, marked as redelivered,
  before what the queue has not given out yet; what it had got beyond its last batch is marked, too
- the indexer may be killed before any write, and while one worker is between two calls of the
  store another may apply a whole batch from another queue
- the store may refuse any write for what it holds; in the end it takes everything
- any dead letter may be replayed at any time, and reconciliation may run at any time

`HYPOTHESIS_PROFILE=soak` runs thousands of histories instead of some dozens.
"""

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from qdrant_client import QdrantClient

from connectors.qdrant import QdrantStore, scan_points
from connectors.rabbitmq import queue_names
from flows.embedding.embedder import lazily
from flows.operators.encode import encode
from flows.operators.index import Indexer
from flows.operators.judge import Sides, expected, gather, judge
from flows.operators.prepare import chunk, clean, dead_at, decode, retract
from flows.text.chunk import Chunker
from models import (
    DOCUMENT_TYPES,
    MAX_ORDINAL,
    CapturedChange,
    ChangeEvent,
    DeadLetter,
    Delivery,
    Message,
    Version,
    entry_id_of,
)
from models.errors import ContentRefusedError
from models.identity import partition_of
from models.prepared import Prepared
from models.stored import SUSPECT, Key
from retrieval.sync import compare, expected_state, stored_state
from tests.dead_letters import replayed
from tests.hashing import HashingEmbedder

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SETTINGS = settings(
    max_examples=int(os.environ.get("HISTORIES", "3000")) if SOAK else 15,
    stateful_step_count=60 if SOAK else 40,
    derandomize=not SOAK,
    deadline=None,
)

EMBEDDER = HashingEmbedder()
CHUNKER = lazily(lambda: Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))
CUT = chunk(CHUNKER)

TYPES = ("posts", "articles")
IDS: tuple[Any, ...] = ("a", "b", 7)
POISON: tuple[Any, ...] = (None, 5)
WORDS = ("one", "two", "three")

DocumentKey = tuple[str, Any]
INDEX_LOG = logging.getLogger("flows.operators.index")


class Entry(NamedTuple):
    """A line of MongoDB's oplog."""

    op: str
    type: str
    id: Any
    version: int
    document: dict[str, Any] | None
    ordinal: int


class Mongo:
    """Documents and their oplog."""

    def __init__(self) -> None:
        self.time = (int(time.time()) << 32) + 1000
        self.live: dict[DocumentKey, dict[str, Any]] = {}
        self.oplog: list[Entry] = []

    def commit(self, writes: list[tuple[str, DocumentKey, dict[str, Any]]]) -> None:
        """One transaction: all its changes share one cluster time."""
        self.time += 1
        for kind, key, fields in writes:
            if kind == "delete":
                if self.live.pop(key, None) is not None:
                    self._log("delete", key)
                continue
            known = self.live.get(key)
            merged = {**known, **fields} if known and kind == "update" else fields
            self.live[key] = {**merged, "_id": key[1]}
            self._log("insert" if known is None else kind, key, self.live[key])

    def drop(self, type_: str) -> None:
        """Drop a collection, or rename it away."""
        self.time += 1
        for key in [key for key in self.live if key[0] == type_]:
            del self.live[key]
        self._log("drop", (type_, None))

    def rename_into(self, type_: str, documents: dict[Any, dict[str, Any]]) -> None:
        """Rename a collection into the place of `type_`: its documents have no changes."""
        self.time += 1
        for key in [key for key in self.live if key[0] == type_]:
            del self.live[key]
        self.live |= {(type_, id_): {**doc, "_id": id_} for id_, doc in documents.items()}
        self._log("rename", (type_, None))

    def _log(self, op: str, key: DocumentKey, document: dict[str, Any] | None = None) -> None:
        ordinal = sum(entry.version == self.time for entry in self.oplog[-10:])
        self.oplog.append(Entry(op, *key, self.time, document, ordinal))


class Position(NamedTuple):
    """Where a capture stands: in a snapshot, or behind a line of the oplog."""

    start: int
    collection: int | None = None
    """Index of the type being scanned; None in the stream."""
    row: int = 0
    """Index of the next `_id` of it."""
    line: int = 0
    """Next line of the oplog."""
    ignored: int = 0
    """Version whose renames have had their snapshot."""


class Capture:
    """What `connectors.mongodb.capture` sends, in which order, with which versions."""

    def __init__(self, mongo: Mongo, queues: list[str]) -> None:
        self.mongo = mongo
        self.encode = encode(queues)
        self.passed = [Position(mongo.time, collection=0)]
        """The checkpoint, and every position behind it."""

    @property
    def position(self) -> Position:
        return self.passed[-1]

    def checkpoint(self, back: int) -> None:
        """Store a position that is `back` steps behind."""
        self.passed = self.passed[max(0, len(self.passed) - 1 - back) :]

    def restart(self) -> None:
        del self.passed[1:]

    def lose_history(self) -> None:
        self.passed = [Position(self.mongo.time, collection=0)]

    def step(self) -> list[Message] | None:
        """The messages of the next row or change; None when there is none."""
        here = self.position
        if here.collection is not None:
            return self._scan(here, TYPES[here.collection])
        if here.line == len(self.mongo.oplog):
            return None
        entry = self.mongo.oplog[here.line]
        self.passed.append(here._replace(line=here.line + 1))
        if entry.op == "rename":
            if entry.version > here.ignored:
                self.passed = [Position(entry.version, collection=0, ignored=entry.version)]
            return []
        document = entry.document
        if entry.op == "update":
            document = self.mongo.live.get((entry.type, entry.id))
            if document is None:
                return []
        return self.encode(
            CapturedChange(
                entry.op, entry.type, entry.version, entry.id, document, ordinal=entry.ordinal
            )
        )

    def _scan(self, here: Position, type_: str) -> list[Message]:
        for row in range(here.row, len(IDS)):
            document = self.mongo.live.get((type_, IDS[row]))
            if document is not None:
                self.passed.append(here._replace(row=row + 1))
                return self.encode(
                    CapturedChange(
                        "snapshot", type_, here.start, IDS[row], document, ordinal=MAX_ORDINAL
                    )
                )
        assert here.collection is not None
        if here.collection + 1 < len(TYPES):
            self.passed.append(here._replace(collection=here.collection + 1, row=0))
        else:
            line = bisect_left([entry.version for entry in self.mongo.oplog], here.start)
            self.passed.append(Position(here.start, line=line, ignored=here.ignored))
        return self.encode(CapturedChange("drop", type_, here.start - 1, ordinal=MAX_ORDINAL))


@dataclass
class Queue:
    """A quorum queue with one active consumer."""

    out: list[tuple[Message, bool]] = field(default_factory=list)
    """Given out and not acknowledged, with whether that had happened before."""
    returned: list[Message] = field(default_factory=list)
    """Given out once, and to be given out again before anything else."""
    ready: list[Message] = field(default_factory=list)

    def take(self, count: int) -> list[Delivery]:
        taken = [(message, True) for message in self.returned[:count]]
        del self.returned[: len(taken)]
        count -= len(taken)
        taken += [(message, False) for message in self.ready[:count]]
        del self.ready[:count]
        self.out += taken
        return [Delivery(m.queue, m.body, m.headers, redelivered) for m, redelivered in taken]

    def acknowledge(self, count: int) -> None:
        del self.out[:count]

    def lose_consumer(self, prefetched: int) -> None:
        """The channel is gone: all that was given out comes again, in its order."""
        self.take(prefetched)
        self.returned = [message for message, _ in self.out] + self.returned
        self.out.clear()

    @property
    def waiting(self) -> int:
        return len(self.returned) + len(self.ready)


class Killed(BaseException):
    """SIGKILL."""


class Interruptible:
    """A Qdrant client that can be killed before a write, and looked away from before any call."""

    _WRITES = frozenset({"upsert", "delete", "batch_update_points"})
    _READS = frozenset({"retrieve", "scroll"})

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self.writes_left: int | None = None
        self.refused = range(0)
        """Which of the next writes are refused."""
        self.calls_left: int | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._client, name)
        if name not in self._WRITES | self._READS:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in self._WRITES and self.writes_left is not None:
                self.writes_left -= 1
                if self.writes_left < 0:
                    raise Killed
            if name in self._WRITES and self.refused:
                refused, self.refused = self.refused, _one_less(self.refused)
                if 0 in refused:
                    raise ContentRefusedError(f"{name} of {args[0]} is refused")
            if self.calls_left is not None:
                self.calls_left -= 1
                if self.calls_left < 0:
                    self.calls_left = None
                    self.meanwhile()
            return function(*args, **kwargs)

        return call


def _one_less(numbers: range) -> range:
    return range(max(0, numbers.start - 1), numbers.stop - 1)


def prepare(delivery: Delivery) -> Iterator[Prepared | DeadLetter]:
    """What `attempt` makes of the three pure steps."""
    prepared = decode(delivery)
    try:
        yield CUT(clean(prepared))
    except Exception as error:  # noqa: BLE001 (as `attempt` does)
        yield dead_at("clean")(prepared, error)
        substitute = retract(prepared)
        if substitute is not None:
            yield substitute


class Unclean(logging.Handler):
    """Counts refused changes that could not be taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "parts of a refused change" in record.msg


class World:
    """MongoDB, capture, queues, workers, store.

    :param partitions: number of queues
    :param workers: processes or threads that share the queues and the store
    """

    def __init__(self, partitions: int = 1, workers: int = 1) -> None:
        self.mongo = Mongo()
        self.names = queue_names("q", partitions)
        self.queues = {name: Queue() for name in self.names}
        self.published: list[Message] = []
        self.capture = Capture(self.mongo, self.names)
        self.qdrant = QdrantClient(":memory:")
        self.client = Interruptible(self.qdrant)
        store = QdrantStore(self.client, DOCUMENT_TYPES)  # type: ignore[arg-type]
        store.ensure_collections(EMBEDDER.dimension)
        self.indexers = [Indexer(store, EMBEDDER, queues=self.names) for _ in range(workers)]
        self.dead: list[DeadLetter] = []
        self.refusals = 0
        self.unclean = Unclean()
        INDEX_LOG.addHandler(self.unclean)

    def close(self) -> None:
        INDEX_LOG.removeHandler(self.unclean)
        self.qdrant.close()

    # --- capture ----------------------------------------------------------------------------------

    def emit(self, count: int = 10**9) -> None:
        for _ in range(count):
            messages = self.capture.step()
            if messages is None:
                return
            self.publish(messages)

    def publish(self, messages: list[Message]) -> None:
        for message in messages:
            self.published.append(message)
            self.queues[message.queue].ready.append(message)

    def resend(self, count: int) -> None:
        """A publisher reconnects: what was not confirmed goes out again, in its order."""
        self.publish(self.published[-count:])

    def late(self, index: int) -> None:
        """One message once more, much later: a forgotten duplicate."""
        self.publish([self.published[-1 - index % len(self.published)]])

    # --- features ---------------------------------------------------------------------------------

    def index(self, queue: int, count: int = 10**9) -> None:
        """A worker takes a batch from a queue and applies it."""
        number = queue % len(self.names)
        batch = self.queues[self.names[number]].take(count)
        if not batch:
            return
        prepared = [item for delivery in batch for item in prepare(delivery)]
        self.dead += [item for item in prepared if isinstance(item, DeadLetter)]
        changes = [item for item in prepared if isinstance(item, Prepared)]
        results = self.indexers[number % len(self.indexers)](changes)
        assert len(results) == len(changes)
        self.dead += [result for result in results if isinstance(result, DeadLetter)]

    def index_and_kill(self, queue: int, count: int, write: int, prefetched: int) -> None:
        """The same, killed before the write of this number, if there are so many."""
        self.client.writes_left = write
        try:
            self.index(queue, count)
        except Killed:
            self.restart_features(prefetched)
        finally:
            self.client.writes_left = None

    def index_two(self, queue: int, count: int, call: int, other: int, other_count: int) -> None:
        """The same, while another worker applies a batch of its own between two calls."""
        if self._worker(queue) == self._worker(other):
            return
        self.client.calls_left = call
        self.client.meanwhile = lambda: self.index(other, other_count)
        self.index(queue, count)
        self.client.calls_left = None

    def index_refused(self, queue: int, count: int, first: int, writes: int) -> None:
        """The same, while the store refuses some writes."""
        self.client.refused = range(first, first + writes)
        self.index(queue, count)
        self.refusals += any(letter.stage == "index" for letter in self.dead)
        self.client.refused = range(0)

    # --- what a person runs -----------------------------------------------------------------------

    def replay(self, index: int, readable: bool = True) -> None:
        """A dead letter is put back, or discarded where something newer is stored."""
        letter = self.dead.pop(-1 - index % len(self.dead))
        store = QdrantStore(self.qdrant, DOCUMENT_TYPES) if readable else None
        message = letter.to_message("q.dlq")
        partitions = {"RABBITMQ_PARTITIONS": str(len(self.names))}
        self.publish(replayed([message], store, self.mongo.time >> 32, "q", **partitions))

    def reconcile(self) -> None:
        """Repairs of all that differs now, as messages of now."""
        sides: dict[Key, Sides] = {}
        documents = {}
        for (type_, id_), document in self.mongo.live.items():
            change = self._repair(type_, id_, document)
            documents[Key(type_, entry_id_of(id_))] = change
            message = ChangeEvent.from_change(change).to_message("")
            with suppress(ValueError):
                made = CUT(clean(decode(Delivery("", message.body, message.headers))))
                gather(sides.setdefault(made.key, Sides()), expected(made, change, EMBEDDER.name))
        for key, *side in scan_points(self.qdrant, DOCUMENT_TYPES):
            gather(sides.setdefault(key, Sides()), (side[0], side[1], side[2]))
        for key, both in sides.items():
            finding = judge(key, both)
            if finding is None:
                continue
            if finding.mongo_id is not None:
                self.publish(self.capture.encode(documents[key]))
                continue
            body = {"type": key.type, "entry_id": key.entry_id}
            now = Version(self.mongo.time, MAX_ORDINAL)
            gone = ChangeEvent("repair", *key, now, body)
            queue = self.names[partition_of(*key, len(self.names))]
            self.publish([gone.to_message(queue)])

    def _repair(self, type_: str, id_: Any, document: dict[str, Any]) -> CapturedChange:
        return CapturedChange("repair", type_, self.mongo.time, id_, document, ordinal=MAX_ORDINAL)

    def _worker(self, queue: int) -> int:
        return queue % len(self.names) % len(self.indexers)

    def busy(self) -> list[int]:
        """Numbers of the queues that hold something to give out, else of all."""
        numbers = range(len(self.names))
        waiting = [number for number in numbers if self.queues[self.names[number]].waiting]
        return waiting or list(numbers)

    def restart_features(self, prefetched: int = 0) -> None:
        for queue in self.queues.values():
            queue.lose_consumer(prefetched)

    def acknowledge(self, queue: int, count: int) -> None:
        self.queues[self.names[queue % len(self.names)]].acknowledge(count)

    # --- what has to hold -------------------------------------------------------------------------

    def synchronise(self) -> None:
        """Everything arrives and is acknowledged."""
        self.drain()
        for queue in self.queues.values():
            queue.out.clear()

    def drain(self) -> None:
        """Everything arrives, and nothing more happens."""
        self.emit()
        while any(queue.waiting for queue in self.queues.values()):
            for number in range(len(self.names)):
                self.index(number, 3)

    def settle(self) -> None:
        """Everything arrives, and what the store refused is mended as an operator would do it.

        What was refused is allowed to be older than in MongoDB, never to be torn.
        """
        self.drain()
        assert self.unclean.count or self.traps() == []
        if self.refusals:
            self.reconcile()
            self.drain()

    def differences(self) -> list[str]:
        """How the store differs from a fresh sync of what MongoDB holds."""
        final = [(type_, document) for (type_, _), document in self.mongo.live.items()]
        expected = expected_state(final, CHUNKER(), EMBEDDER)
        return compare(expected, stored_state(self.qdrant, with_vectors=True))

    def traps(self) -> list[str]:
        """Chunks that no record names, or that are missing where a record names them."""
        points = list(scan_points(self.qdrant, DOCUMENT_TYPES))
        records = {key: payload for key, kind, _, payload in points if kind == "record"}
        named = {(key, id_) for key, record in records.items() for id_ in record["chunk_ids"]}
        there = {(key, id_) for key, kind, id_, _ in points if kind == "chunk"}
        wrong = [(key, id_) for key, id_ in named ^ there if SUSPECT not in records.get(key, {})]
        return sorted(f"{key} {id_}" for key, id_ in wrong)

    def unexplained(self) -> list[DocumentKey]:
        """Poison documents that MongoDB holds and no dead letter tells of."""
        told = {(letter.type, letter.entry_id) for letter in self.dead}
        return [
            (type_, id_)
            for (type_, id_), document in self.mongo.live.items()
            if document["content"] in POISON and (type_, entry_id_of(id_)) not in told
        ]


types = st.sampled_from(TYPES)
keys = st.tuples(types, st.sampled_from(IDS))
sections = st.dictionaries(
    st.sampled_from(["Title", "Content", "x"]), st.sampled_from(WORDS), min_size=1
)
contents = sections | sections | sections | st.sampled_from(POISON)
documents = st.fixed_dictionaries(
    {"content": contents}, optional={"author_id": st.sampled_from(["me", "you"])}
)
writes = st.tuples(st.sampled_from(["insert", "update", "replace", "delete"]), keys, documents)
queue_numbers = st.integers(0, 3)
few = st.integers(1, 4)
many = st.integers(0, 10)


class Histories(RuleBasedStateMachine):
    """Any history of one queue and one worker."""

    partitions = 1
    workers = 1
    refusing = False
    """Whether the store refuses some writes. What is torn then is mended by reconciliation, which
    would hide other defects."""

    @initialize(before=st.lists(writes, max_size=3))
    def begin(self, before: list[Any]) -> None:
        self.world = World(self.partitions, self.workers)
        if before:
            self.world.mongo.commit(before)
        self.world.capture.lose_history()

    @rule(some=st.lists(writes, min_size=1, max_size=3))
    def write(self, some: list[Any]) -> None:
        for write in some:
            self.world.mongo.commit([write])

    @rule(
        key=keys,
        steps=st.lists(st.tuples(st.sampled_from(["replace", "delete"]), documents), min_size=2),
    )
    def transaction(self, key: DocumentKey, steps: list[Any]) -> None:
        self.world.mongo.commit([(kind, key, document) for kind, document in steps])

    @rule(key=keys, first=documents, last=documents, late=st.integers(0, 1))
    def late_in_a_transaction(
        self, key: DocumentKey, first: dict[str, Any], last: dict[str, Any], late: int
    ) -> None:
        """Both changes are applied; then one of them comes once more."""
        self.world.synchronise()
        self.world.mongo.commit([("replace", key, first), ("replace", key, last)])
        self.world.synchronise()
        self.world.late(late)

    @rule(type_=types)
    def drop(self, type_: str) -> None:
        self.world.mongo.drop(type_)

    @rule(key=keys, document=documents)
    def drop_and_write(self, key: DocumentKey, document: dict[str, Any]) -> None:
        self.world.mongo.drop(key[0])
        self.world.mongo.commit([("insert", key, document)])
        self.world.emit()

    @rule(write=writes)
    def snapshot(self, write: Any) -> None:
        self.world.mongo.commit([write])
        self.world.capture.lose_history()
        self.world.emit()

    @rule(type_=types, arriving=st.dictionaries(st.sampled_from(IDS), documents))
    def rename_into(self, type_: str, arriving: dict[Any, dict[str, Any]]) -> None:
        self.world.mongo.rename_into(type_, arriving)

    @rule(count=few)
    def emit(self, count: int) -> None:
        self.world.emit(count)

    @rule()
    def emit_all(self) -> None:
        self.world.emit()

    @rule(back=many)
    def checkpoint(self, back: int) -> None:
        self.world.capture.checkpoint(back)

    @rule()
    def restart_capture(self) -> None:
        self.world.capture.restart()

    @rule()
    def lose_history(self) -> None:
        self.world.capture.lose_history()

    @rule(count=few)
    def resend(self, count: int) -> None:
        self.world.resend(count)

    @rule(index=st.integers(0, 12))
    def late(self, index: int) -> None:
        if self.world.published:
            self.world.late(index)

    @precondition(lambda self: self.world.dead)
    @rule(index=few, readable=st.booleans())
    def replay(self, index: int, readable: bool) -> None:
        self.world.replay(index - 1, readable)

    @rule()
    def reconcile(self) -> None:
        self.world.reconcile()

    @precondition(lambda self: self.refusing)
    @rule(queue=queue_numbers, count=few, first=st.integers(0, 8), writes=few)
    def refuse(self, queue: int, count: int, first: int, writes: int) -> None:
        self.world.emit()
        self.world.index_refused(self.busy(queue), count, first, writes)

    @rule()
    def synchronise(self) -> None:
        self.world.synchronise()

    def busy(self, queue: int) -> int:
        """One of the queues in which something waits."""
        return self.world.busy()[queue % len(self.world.busy())]

    @rule(queue=queue_numbers, count=few)
    def index(self, queue: int, count: int) -> None:
        self.world.index(self.busy(queue), count)

    @rule(queue=queue_numbers)
    def index_all(self, queue: int) -> None:
        self.world.index(self.busy(queue))

    @rule(
        emit=st.booleans(),
        queue=queue_numbers,
        count=few,
        write=st.integers(0, 8),
        prefetched=st.integers(0, 2),
    )
    def kill(self, emit: bool, queue: int, count: int, write: int, prefetched: int) -> None:
        if emit:
            self.world.emit()
        self.world.index_and_kill(self.busy(queue), count, write, prefetched)

    @precondition(lambda self: self.workers > 1)
    @rule(
        emit=st.booleans(),
        queue=queue_numbers,
        count=few,
        call=many,
        other=queue_numbers,
        other_count=few,
    )
    def index_two(
        self, emit: bool, queue: int, count: int, call: int, other: int, other_count: int
    ) -> None:
        if emit:
            self.world.emit()
        self.world.index_two(self.busy(queue), count, call, self.busy(other), other_count)

    @precondition(lambda self: self.workers > 1)
    @rule(queue=queue_numbers, count=few, call=many, other=queue_numbers, other_count=few)
    def index_two_more(
        self, queue: int, count: int, call: int, other: int, other_count: int
    ) -> None:
        self.index_two(True, queue, count, call, other, other_count)

    @rule(queue=queue_numbers, prefetched=st.integers(0, 2))
    def lose_channel(self, queue: int, prefetched: int) -> None:
        queues = self.world.queues
        queues[self.world.names[queue % len(queues)]].lose_consumer(prefetched)

    @rule(queue=queue_numbers, count=many)
    def acknowledge(self, queue: int, count: int) -> None:
        self.world.acknowledge(queue, count)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.settle()
            assert self.world.differences() == []
            assert self.world.unexplained() == []
        finally:
            self.world.close()


class OfFourQueues(Histories):
    """Any history of four queues and one worker."""

    partitions = 4


class OfTwoWorkers(Histories):
    """Any history of four queues and two workers that write at the same time."""

    partitions = 4
    workers = 2


class OfARefusingStore(Histories):
    """Any history of a store that refuses some writes."""

    refusing = True


A, SEVEN = ("posts", "a"), ("posts", 7)
"""Documents of queue 0 and of queue 1."""


def text(*words: str) -> dict[str, Any]:
    return {"content": {str(number): word for number, word in enumerate(words)}}


@pytest.fixture
def begin() -> Iterator[Callable[[int], World]]:
    """Makes worlds of four queues in which A is stored."""
    worlds: list[World] = []

    def make(workers: int = 1) -> World:
        worlds.append(world := World(4, workers))
        world.mongo.commit([("insert", A, text("one"))])
        world.synchronise()
        return world

    yield make
    for world in worlds:
        world.close()


def test_killed_before_a_drop_that_comes_by_another_queue(begin: Callable[[int], World]) -> None:
    """The chunks written before the kill are named by no record, and the redelivered change that
    would clear them away is older than the drop.
    """
    for write in range(4):
        world = begin(1)
        world.mongo.commit([("replace", A, text("two"))])
        world.mongo.drop("posts")
        world.emit()
        world.index_and_kill(0, 1, write, prefetched=0)
        world.index(1)
        world.drain()
        assert world.differences() == [], write


def test_killed_within_a_drop_that_comes_by_another_queue(begin: Callable[[int], World]) -> None:
    """The record still names chunks that are gone, and a snapshot row, never delivered before,
    trusts it.
    """
    for write in range(5):
        world = begin(1)
        world.mongo.commit([("insert", SEVEN, text("two"))])
        world.capture.lose_history()
        world.emit()
        world.index(1, 1)
        world.index_and_kill(1, 1, write, prefetched=0)
        world.index(0)
        world.drain()
        assert world.differences() == [], write


def test_a_snapshot_through_two_workers(begin: Callable[[int], World]) -> None:
    """While one applies a row, the other one gets to the drop behind its own rows."""
    for call in range(8):
        world = begin(2)
        world.mongo.commit([("insert", SEVEN, text("two"))])
        world.capture.lose_history()
        world.emit()
        world.index_two(0, 1, call, 1, 3)
        world.drain()
        assert world.differences() == [], call


def test_a_drop_and_a_new_document_through_two_workers(begin: Callable[[int], World]) -> None:
    """While one carries out the drop, the other one is behind it already."""
    for call in range(8):
        world = begin(2)
        world.mongo.drop("posts")
        world.mongo.commit([("insert", A, text("one"))])
        world.emit()
        world.index_two(1, 1, call, 0, 2)
        world.drain()
        assert world.differences() == [], call


def test_a_snapshot_takes_nothing_away_in_between(begin: Callable[[int], World]) -> None:
    """No empty window, and no embedding of what has not changed."""
    world = begin(1)
    world.mongo.commit([("insert", SEVEN, text("two"))])
    world.capture.lose_history()
    world.emit()
    embedded = EMBEDDER.encoded
    world.index(1)
    assert world.qdrant.count("cleaned_posts").count == 2
    world.drain()
    assert EMBEDDER.encoded - embedded == 1


@pytest.mark.parametrize("machine", [Histories, OfFourQueues, OfTwoWorkers, OfARefusingStore])
def test_every_history_converges(machine: type[Histories]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)
