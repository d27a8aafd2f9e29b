"""MongoDB, capture, queues, workers and store of one pipeline, or of several beside each other."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from qdrant_client import QdrantClient

from connectors.qdrant import Collections, Owner, QdrantStore, scan_points
from connectors.rabbitmq import dead_letter_queue, queue_names
from flows.embedding.embedder import lazily
from flows.operators.attempt import bury
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
from models.identity import partition_of
from models.prepared import Prepared
from models.stored import SUSPECT, Key
from retrieval.sync import State, compare, expected_state, stored_state
from tests.dead_letters import replayed
from tests.hashing import HashingEmbedder
from tests.histories.broker import Broker, Link, Queue
from tests.histories.mongodb import Capture, DocumentKey, Mongo
from tests.histories.store import Fault, Interruptible, Killed, OtherModel

EMBEDDER = HashingEmbedder()
OTHER_MODEL = OtherModel()
CHUNKER = lazily(lambda: Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))
CUT = chunk(CHUNKER)

POISON: tuple[Any, ...] = (None, 5)
_OTHERS = ("r", Collections("other_"))

_INDEX_LOG = logging.getLogger("flows.operators.index")


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
    """One pipeline, from MongoDB to the store.

    :param partitions: number of queues
    :param workers: processes or threads that share the queues and the store
    :param beside: a pipeline on the same servers, of the same database
    """

    def __init__(
        self, partitions: int = 1, workers: int = 1, beside: "World | None" = None
    ) -> None:
        self.queue, self.collections = ("q", Collections()) if beside is None else _OTHERS
        self.mongo = beside.mongo if beside else Mongo()
        self.broker = beside.broker if beside else Broker()
        self.names = queue_names(self.queue, partitions)
        self.dlq = dead_letter_queue(self.queue)
        self.broker.declare([*self.names, self.dlq])
        self.capture = Capture(self.mongo, self.names)
        self.changes = Link(self.broker)
        self.letters = Link(self.broker)
        self.repairs = [Link(self.broker)]
        self.qdrant = beside.qdrant if beside else QdrantClient(":memory:")
        self.client = Interruptible(self.qdrant)
        self.embedder: HashingEmbedder = EMBEDDER
        self.outdated = False
        """Whether another model has made some vectors."""
        self._workers = workers
        self.restart_features()
        self.refusals = 0
        self.unclean = Unclean()
        _INDEX_LOG.addHandler(self.unclean)

    def close(self) -> None:
        _INDEX_LOG.removeHandler(self.unclean)
        self.qdrant.close()

    @property
    def queues(self) -> list[Queue]:
        return [self.broker.queues[name] for name in self.names]

    @property
    def dead(self) -> list[Message]:
        """The dead letters that have arrived."""
        return self.broker.queues[self.dlq].ready

    # --- capture ----------------------------------------------------------------------------------

    def emit(self, count: int = 10**9) -> None:
        """Read rows or changes, and publish them."""
        for _ in range(count):
            messages = self.capture.step()
            if messages is None:
                return
            self.changes.submit(messages)
            self.capture.note(self.changes.publisher.submitted)

    def checkpoint(self, back: int) -> None:
        self.capture.checkpoint(back, self.changes.publisher.confirmed)

    def restart_capture(self, taken: int = 0) -> None:
        """Killed: the broker had taken so many messages more than it has confirmed."""
        self.changes.lose(taken)
        self.changes = Link(self.broker)
        self.capture.restart()

    def resend(self, count: int) -> None:
        """A publisher reconnects: what was not confirmed goes out again, in its order."""
        for message in self.broker.published[-count:]:
            self.broker.put(message)

    def late(self, index: int) -> None:
        """One message once more, much later: a forgotten duplicate."""
        published = self.broker.published
        self.broker.put(published[-1 - index % len(published)])

    def turn(self) -> None:
        """Every publisher tries again."""
        for link in self._links:
            link.turn()

    @property
    def _links(self) -> list[Link]:
        return [self.changes, self.letters, *self.repairs]

    # --- features ---------------------------------------------------------------------------------

    def index(self, queue: int, count: int = 10**9) -> int:
        """A worker takes a batch from a queue and applies it; how much of it the store refused."""
        number = queue % len(self.names)
        batch = self.queues[number].take(count)
        if not batch:
            return 0
        prepared = [item for delivery in batch for item in prepare(delivery)]
        changes = [item for item in prepared if isinstance(item, Prepared)]
        results = self.indexers[number % len(self.indexers)](changes)
        assert len(results) == len(changes)
        refused = [result for result in results if isinstance(result, DeadLetter)]
        dead = [*(item for item in prepared if isinstance(item, DeadLetter)), *refused]
        self.letters.submit([bury(self.dlq)(letter) for letter in dead])
        self.turn()
        return len(refused)

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

    def index_refused(self, queue: int, count: int, fault: Fault) -> None:
        """The same, while the store refuses some writes for what they hold: what they have left
        is cleared away, if that was not refused, too.
        """
        before, unclean = set(self.traps()), self.unclean.count
        self.refusals += self._index_with(fault, queue, count)
        assert self.unclean.count > unclean or set(self.traps()) <= before

    def index_away(self, queue: int, count: int, fault: Fault) -> None:
        """The same, while the store is away, or at a limit, which is waited for."""
        assert self._index_with(fault, queue, count) == 0, "nothing but content is refused"

    def _index_with(self, fault: Fault, queue: int, count: int) -> int:
        self.client.fail(fault)
        refused = self.index(queue, count)
        self.client.fail(None)
        return refused

    def restart_features(self, prefetched: int = 0, model: HashingEmbedder | None = None) -> None:
        """Begin again, with another model of the same size if one is given."""
        if model is not None:
            self.outdated |= model is not self.embedder
            self.embedder = model
        self.letters.lose(0)
        self.letters = Link(self.broker)
        for queue in self.queues:
            queue.lose_consumer(prefetched)
        store = QdrantStore(self.client, DOCUMENT_TYPES, self.collections)  # type: ignore[arg-type]
        store.claim(Owner("twin", "/", self.queue))
        store.ensure_collections(self.embedder.dimension)
        self.indexers = [
            Indexer(store, self.embedder, queues=self.names) for _ in range(self._workers)
        ]

    def acknowledge(self, queue: int, count: int) -> None:
        """Give up what is done, except where a dead letter of it is not confirmed."""
        self.queues[queue % len(self.names)].acknowledge(
            count, but=self.letters.publisher.unconfirmed()
        )

    def busy(self) -> list[int]:
        """Numbers of the queues that hold something to give out, else of all."""
        waiting = [number for number, queue in enumerate(self.queues) if queue.waiting]
        return waiting or list(range(len(self.names)))

    def _worker(self, queue: int) -> int:
        return queue % len(self.names) % len(self.indexers)

    # --- what a person runs -----------------------------------------------------------------------

    def replay(self, index: int, readable: bool = True) -> None:
        """A dead letter is put back, or discarded where something newer is stored."""
        letter = self.dead.pop(-1 - index % len(self.dead))
        store = QdrantStore(self.qdrant, DOCUMENT_TYPES, self.collections) if readable else None
        partitions = {"RABBITMQ_PARTITIONS": str(len(self.names))}
        for message in replayed([letter], store, self.mongo.time >> 32, self.queue, **partitions):
            self.broker.put(message)

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
                side = expected(made, change, self.embedder.name)
                gather(sides.setdefault(made.key, Sides()), side)
        for key, *point in scan_points(self.qdrant, DOCUMENT_TYPES, self.collections):
            gather(sides.setdefault(key, Sides()), (point[0], point[1], point[2]))
        repairs: list[Message] = []
        for key, both in sides.items():
            finding = judge(key, both)
            if finding is None:
                continue
            if finding.mongo_id is not None:
                repairs += self.capture.encode(documents[key])
                continue
            body = {"type": key.type, "entry_id": key.entry_id}
            now = Version(self.mongo.time, MAX_ORDINAL)
            queue = self.names[partition_of(*key, len(self.names))]
            repairs.append(ChangeEvent("repair", *key, now, body).to_message(queue))
        self.repairs = [link for link in self.repairs if not link.done]
        self.repairs.append(link := Link(self.broker))
        link.submit(repairs)

    def _repair(self, type_: str, id_: Any, document: dict[str, Any]) -> CapturedChange:
        return CapturedChange("repair", type_, self.mongo.time, id_, document, ordinal=MAX_ORDINAL)

    # --- what has to hold -------------------------------------------------------------------------

    def synchronise(self) -> None:
        """Everything arrives and is acknowledged."""
        self.drain()
        for queue in self.queues:
            queue.out.clear()

    def drain(self) -> None:
        """The broker recovers, everything arrives, and nothing more happens."""
        self.broker.recover()
        self.emit()
        self.turn()
        while any(queue.waiting for queue in self.queues) or not all(x.done for x in self._links):
            self.turn()
            for number in range(len(self.names)):
                self.index(number, 3)

    def settle(self, by_snapshot: bool = False) -> None:
        """Everything arrives, and what only an operator can mend is mended.

        A refused document is allowed to be older than in MongoDB, never to be torn.

        :param by_snapshot: how vectors of another model are made anew, else by reconciliation
        """
        self.drain()
        assert self.unclean.count or self.traps() == []
        if self.outdated and by_snapshot:
            self.capture.lose_history()
        if self.refusals or (self.outdated and not by_snapshot):
            self.reconcile()
        self.drain()

    def differences(self) -> list[str]:
        """How the store differs from a fresh sync of what MongoDB holds."""
        final = [(type_, document) for (type_, _), document in self.mongo.live.items()]
        return compare(expected_state(final, CHUNKER(), self.embedder), self.stored())

    def stored(self) -> State:
        return stored_state(self.qdrant, with_vectors=True, collections=self.collections)

    def traps(self) -> list[str]:
        """Chunks that no record names, or that are missing where a record names them."""
        points = list(scan_points(self.qdrant, DOCUMENT_TYPES, self.collections))
        records = {key: payload for key, kind, _, payload in points if kind == "record"}
        named = {(key, id_) for key, record in records.items() for id_ in record["chunk_ids"]}
        there = {(key, id_) for key, kind, id_, _ in points if kind == "chunk"}
        wrong = [(key, id_) for key, id_ in named ^ there if SUSPECT not in records.get(key, {})]
        return sorted(f"{key} {id_}" for key, id_ in wrong)

    def unexplained(self) -> list[DocumentKey]:
        """Poison documents that MongoDB holds and no dead letter tells of."""
        told: dict[tuple[str, str], int] = {}
        for letter in self.dead:
            key = letter.headers["document_type"], letter.headers.get("document_id", "")
            told[key] = max(told.get(key, 0), letter.headers["version"])
        return [
            (type_, id_)
            for (type_, id_), document in self.mongo.live.items()
            if document["content"] in POISON
            and told.get((type_, entry_id_of(id_)), 0) < self.mongo.written[type_, id_]
        ]
