"""Everything that can happen to a pipeline, as rules of Hypothesis."""

import sys
from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from retrieval.sync import compare
from tests.hashing import HashingEmbedder
from tests.histories.mongodb import IDS, TYPES, DocumentKey
from tests.histories.store import Fault, limit, lost_answer, refusal
from tests.histories.world import EMBEDDER, OTHER_MODEL, POISON, World

WORDS = ("one", "two", "three")
BEGUN: Counter[str] = Counter()
"""How many histories there were, by machine."""

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
    busy_broker = False
    """Whether the broker has alarms, full queues and connections that are lost."""
    pipelines = 1
    models = 1
    """Whether the model changes; in the end a snapshot or a reconciliation replaces its vectors."""
    mending = True
    """Whether there are snapshots and reconciliations: they hide that something was lost."""

    @initialize(
        before=st.lists(writes, max_size=3), by_snapshot=st.booleans(), mending=st.booleans()
    )
    def begin(self, before: list[Any], by_snapshot: bool, mending: bool) -> None:
        BEGUN[type(self).__name__] += 1
        self.by_snapshot, self.mending = by_snapshot, mending
        self.world = World(self.partitions, self.workers)
        self.worlds = [self.world]
        if before:
            self.world.mongo.commit(before)
        self.world.capture.lose_history()
        if self.pipelines > 1:
            self.worlds.append(World(self.partitions, self.workers, beside=self.world))
        self.before = [world.stored() for world in self.worlds]

    @rule(some=st.lists(writes, min_size=1, max_size=3))
    def write(self, some: list[Any]) -> None:
        for write in some:
            self.world.mongo.commit([write])

    @rule(
        key=keys,
        steps=st.lists(
            st.tuples(st.sampled_from(["replace", "delete"]), documents), min_size=2, max_size=12
        ),
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

    @precondition(lambda self: self.mending)
    @rule(write=writes)
    def snapshot(self, write: Any) -> None:
        self.world.mongo.commit([write])
        self.world.capture.lose_history()
        self.world.emit()

    @precondition(lambda self: self.mending)
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
        self.world.checkpoint(back)

    @rule(taken=st.integers(0, 3))
    def restart_capture(self, taken: int) -> None:
        self.world.restart_capture(taken)

    @precondition(lambda self: self.mending)
    @rule()
    def lose_history(self) -> None:
        self.world.capture.lose_history()

    @rule(count=few)
    def resend(self, count: int) -> None:
        self.world.resend(count)

    @rule(index=st.integers(0, 12))
    def late(self, index: int) -> None:
        if self.world.broker.published:
            self.world.late(index)

    @precondition(lambda self: self.world.dead)
    @rule(index=few, readable=st.booleans())
    def replay(self, index: int, readable: bool) -> None:
        self.world.replay(index - 1, readable)

    @precondition(lambda self: self.mending)
    @rule()
    def reconcile(self) -> None:
        self.world.reconcile()

    @precondition(lambda self: self.refusing)
    @rule(
        drained=st.booleans(), key=keys, document=documents, count=few, first=st.integers(0, 4),
        writes=st.sampled_from([1, 1, 1, 2, 4]),
    )  # fmt: skip
    def refuse(
        self, drained: bool, key: DocumentKey, document: Any, count: int, first: int, writes: int
    ) -> None:
        if drained:
            self.world.drain()
        self.world.mongo.commit([("replace", key, document)])
        self.world.emit()
        self.world.index_refused(self.busy(0), count, refusal(first, writes))

    @rule(
        queue=queue_numbers,
        count=few,
        fault=st.builds(limit, few, few) | st.builds(lost_answer, few, few),
    )
    def away(self, queue: int, count: int, fault: Fault) -> None:
        """The store meets a limit, or its connection is lost with the change applied."""
        self.world.emit()
        self.world.index_away(self.busy(queue), count, fault)

    @precondition(lambda self: self.busy_broker)
    @rule(
        key=keys,
        content=contents | st.sampled_from(POISON),
        acknowledged=many,
        killed=st.booleans(),
    )
    def alarm(self, key: DocumentKey, content: Any, acknowledged: int, killed: bool) -> None:
        """From now on the broker takes no message, dead letters included, and gives out what it
        has.
        """
        self.world.mongo.commit([("replace", key, {"content": content})])
        self.world.emit()
        self.world.broker.alarm = True
        for queue in self.world.busy():
            self.world.index(queue)
            self.world.acknowledge(queue, acknowledged)
        if killed:
            self.world.restart_features()

    @precondition(lambda self: self.busy_broker)
    @rule(queue=queue_numbers, limit=st.integers(0, 3), some=st.lists(writes, max_size=6))
    def fill(self, queue: int, limit: int, some: list[Any]) -> None:
        queues = self.world.queues
        queues[queue % len(queues)].limit = limit
        for write in some:
            self.world.mongo.commit([write])
        self.world.emit()

    @precondition(lambda self: self.busy_broker)
    @rule(taken=many, letters=st.booleans())
    def lose_connection(self, taken: int, letters: bool) -> None:
        """Some messages have arrived, and the confirms of them have not."""
        (self.world.letters if letters else self.world.changes).lose(taken)

    @precondition(lambda self: self.busy_broker)
    @rule()
    def recover(self) -> None:
        self.world.broker.recover()
        self.world.turn()

    @precondition(lambda self: self.models > 1)
    @rule(model=st.sampled_from([EMBEDDER, OTHER_MODEL]), prefetched=st.integers(0, 2))
    def restart_with_a_model(self, model: HashingEmbedder, prefetched: int) -> None:
        self.world.restart_features(prefetched, model)

    @precondition(lambda self: self.pipelines > 1)
    @rule()
    def turn_to_the_other_pipeline(self) -> None:
        """Nobody but itself has changed what it stores."""
        here = self.worlds.index(self.world)
        self.before[here] = self.world.stored()
        self.world = self.worlds[1 - here]
        assert compare(self.before[1 - here], self.world.stored()) == []

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
        queues[queue % len(queues)].lose_consumer(prefetched)

    @rule(queue=queue_numbers, count=many, prefetched=st.integers(0, 2))
    def acknowledge_and_die(self, queue: int, count: int, prefetched: int) -> None:
        """Killed between two batches."""
        self.world.acknowledge(queue, count)
        self.world.restart_features(prefetched)

    @rule(queue=queue_numbers, count=many)
    def acknowledge(self, queue: int, count: int) -> None:
        self.world.acknowledge(queue, count)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        raised = sys.exc_info()[1]  # by a rule, or by Hypothesis, which discards this history
        try:
            if raised is None:
                self.judge()
        except AssertionError as error:
            raised = error
            raise
        finally:
            if isinstance(raised, AssertionError):
                print(f"{type(self).__name__}: history {BEGUN[type(self).__name__]} shows it")
            for world in self.worlds:
                world.close()

    def judge(self) -> None:
        """Everything arrives; then the store holds what a fresh sync would, and nothing is lost
        without a word.
        """
        for world in self.worlds:
            world.settle(self.by_snapshot)
        for world in self.worlds:
            assert world.differences() == []
            assert world.unexplained() == []


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


class OfABusyBroker(Histories):
    """Any history of a broker with alarms, full queues and connections that are lost."""

    partitions = 2
    busy_broker = True


class OfTwoPipelines(Histories):
    """Any history of two pipelines on one database, one broker and one store."""

    pipelines = 2


class OfTwoModels(Histories):
    """Any history of a features flow that is restarted with another model of the same size."""

    models = 2


MACHINES: tuple[type[Histories], ...] = (
    Histories,
    OfFourQueues,
    OfTwoWorkers,
    OfARefusingStore,
    OfABusyBroker,
    OfTwoPipelines,
    OfTwoModels,
)
