"""When a source gives up what it holds: the acknowledgements of one, the position of the other."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mongodb import source as mongodb
from connectors.mongodb.handover import Entry
from connectors.rabbitmq import source as rabbitmq
from models import CapturedChange, Delivery, Message, Receipt
from models.errors import ConnectorFailedError
from tests.publishing import HeldBack


class Queue:
    """A consumer without a broker: what it delivers, and what is acknowledged."""

    def __init__(self) -> None:
        self.generation = 0
        self.tag = 0
        self.buffer: list[Delivery] = []
        self.acked: set[int] = set()
        self.frames = 0
        self.failure: Exception | None = None

    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.tag += 1
            receipt = Receipt("q", self.generation, self.tag)
            self.buffer.append(Delivery("q", b"", receipt=receipt))

    def lose(self) -> None:
        self.generation += 1
        self.tag = 0
        self.buffer, self.acked = [], set()

    def take(self, max_count: int, _max_bytes: int) -> list[Delivery]:
        taken, self.buffer = self.buffer[:max_count], self.buffer[max_count:]
        return taken

    def acknowledge(self, generation: int, up_to: int | None, also: Sequence[int] = ()) -> None:
        assert generation == self.generation
        tags = [*range(1, (up_to or 0) + 1), *also]
        self.frames += (up_to is not None) + len(also)
        self.acked |= set(tags)

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure


def consuming() -> tuple[Queue, HeldBack, Any]:
    queue, letters = Queue(), HeldBack()
    stopping = threading.Event()
    part: Any = rabbitmq._Partition("q", queue, letters, stopping, (256, 2**20))  # type: ignore[arg-type]
    return queue, letters, part


def letter(delivery: Delivery) -> Message:
    return Message("q.dlq", b"", receipt=delivery.receipt)


def test_a_dead_letter_that_waits_holds_back_its_own_message_only() -> None:
    queue, letters, part = consuming()
    queue.deliver(1000)
    for _ in range(4):
        letters.submit([letter(d) for d in part.next_batch() if d.receipt.tag in (300, 500)])
    part.snapshot()
    part.next_batch()
    assert set(range(1, 1001)) - queue.acked == {300, 500}
    queue.deliver(1000)  # the prefetch goes on
    assert len(part.next_batch()) == 256
    part.snapshot()
    part.next_batch()
    assert set(range(1, 1257)) - queue.acked == {300, 500}
    letters.confirmed = 1
    part.next_batch()
    assert set(range(1, 1257)) - queue.acked == {500}
    letters.confirmed = 2
    part.next_batch()
    assert queue.acked == set(range(1, 1257))


def test_an_epoch_without_dead_letters_is_one_acknowledgement() -> None:
    queue, _, part = consuming()
    queue.deliver(200)
    part.next_batch()
    part.snapshot()
    part.next_batch()
    assert queue.frames == 1
    assert queue.acked == set(range(1, 201))


def test_nothing_is_acknowledged_before_its_epoch_is_closed() -> None:
    queue, _, part = consuming()
    queue.deliver(10)
    part.next_batch()
    part.next_batch()
    assert not queue.acked
    part.snapshot()
    assert not queue.acked


def test_messages_that_nobody_accounts_for_hold_back_everything() -> None:
    queue, letters, part = consuming()
    queue.deliver(10)
    part.next_batch()
    letters.submit([Message("q.dlq", b"")])
    part.snapshot()
    part.next_batch()
    assert not queue.acked
    letters.confirmed = 1
    part.next_batch()
    assert queue.acked == set(range(1, 11))


def test_dead_letters_that_fill_the_memory_stop_the_source() -> None:
    queue, letters, part = consuming()
    queue.deliver(10)
    letters.is_heavy = True
    assert part.next_batch() == []
    letters.is_heavy = False
    assert len(part.next_batch()) == 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["deliver", "batch", "batch", "epoch", "confirm", "lose"]),
            st.integers(0, 12),
        ),
        max_size=60,
    )
)
def test_no_delivery_is_acknowledged_before_what_was_made_of_it_is_confirmed(
    steps: list[tuple[str, int]],
) -> None:
    queue, letters, part = consuming()
    closed: set[Receipt] = set()
    open_: list[Receipt] = []

    def batch(every: int) -> None:
        deliveries = part.next_batch()
        letters.submit([letter(d) for d in deliveries if d.receipt.tag % (every + 1) == 0])
        open_.extend(d.receipt for d in deliveries)

    for step, number in steps:
        if step == "deliver":
            queue.deliver(number)
        elif step == "batch":
            batch(number)
        elif step == "epoch":
            part.snapshot()
            closed |= set(open_)
            open_.clear()
        elif step == "confirm":
            letters.confirmed = min(letters.confirmed + number, letters.submitted)
        else:
            queue.lose()
        acked = {Receipt("q", queue.generation, tag) for tag in queue.acked}
        assert acked <= closed
        assert not acked & {r for r in letters.unconfirmed() if r is not None}
    batch(10**9)
    letters.confirmed = letters.submitted
    assert part.finish()
    wanted = {r.tag for r in closed | set(open_) if r.channel == queue.generation}
    assert queue.acked == wanted


def test_the_end_acknowledges_what_it_can_and_waits_for_the_rest() -> None:
    queue, letters, part = consuming()
    queue.deliver(3)
    letters.submit([letter(d) for d in part.next_batch() if d.receipt.tag == 2])
    assert not part.finish()
    assert queue.acked == {1, 3}
    letters.confirmed = 1
    assert part.finish()
    assert queue.acked == {1, 2, 3}


def test_the_end_does_not_wait_for_a_publisher_that_has_failed() -> None:
    queue, letters, part = consuming()
    queue.deliver(3)
    letters.submit([letter(d) for d in part.next_batch()])
    letters.failure = ConnectorFailedError("it has ended by itself")
    with pytest.raises(ConnectorFailedError):
        part.finish()
    assert not queue.acked


@pytest.mark.parametrize("dead", ["consumer", "dead letters"])
def test_a_consuming_flow_does_not_outlive_its_threads(dead: str) -> None:
    queue, letters, part = consuming()
    failure = ConnectorFailedError("it has ended by itself")
    if dead == "consumer":
        queue.failure = failure
    else:
        letters.failure = failure
    with pytest.raises(ConnectorFailedError):
        part.next_batch()


class Stream:
    """A capture without a server: what it hands over, and the positions it is to store."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.stored: list[Any] = []
        self.read = 0

    def change(self, count: int) -> None:
        for _ in range(count):
            self.read += 1
            change = CapturedChange("insert", "posts", self.read)
            self.entries.append((change, self.read))  # type: ignore[arg-type]

    def take(self, max_count: int, _max_bytes: int) -> list[Entry]:
        taken, self.entries = self.entries[:max_count], self.entries[max_count:]
        return taken

    def commit(self, position: Any) -> None:
        self.stored.append(position)


def capturing() -> tuple[Stream, HeldBack, Any]:
    stream, messages = Stream(), HeldBack()
    stopping = threading.Event()
    part: Any = mongodb._Partition(stream, messages, stopping, 500, 2**20)  # type: ignore[arg-type]
    return stream, messages, part


def test_a_full_publisher_stops_the_change_stream() -> None:
    stream, messages, part = capturing()
    stream.change(10)
    messages.has_room = False
    assert part.next_batch() == []
    messages.has_room = True
    assert len(part.next_batch()) == 10


def test_a_capturing_flow_does_not_outlive_its_publisher() -> None:
    _, messages, part = capturing()
    messages.failure = ConnectorFailedError("it has ended by itself")
    with pytest.raises(ConnectorFailedError):
        part.next_batch()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["change", "batch", "batch", "epoch", "confirm"]), st.integers(0, 12)
        ),
        max_size=60,
    )
)
def test_no_position_is_stored_before_everything_up_to_it_is_confirmed(
    steps: list[tuple[str, int]],
) -> None:
    stream, messages, part = capturing()

    def batch() -> None:
        made = [Message("q", b"%d" % change.version) for change in part.next_batch()]
        messages.submit(made)

    for step, number in steps:
        if step == "change":
            stream.change(number)
        elif step == "batch":
            batch()
        elif step == "epoch":
            part.snapshot()
        else:
            messages.confirmed = min(messages.confirmed + number, messages.submitted)
        confirmed = max((int(m.body) for m in messages.messages[: messages.confirmed]), default=0)
        assert all(position <= confirmed for position in stream.stored)
    batch()
    left = messages.confirmed < messages.submitted
    assert part.finish() is not left
    messages.confirmed = messages.submitted
    assert part.finish()
    handed_on = len(messages.messages)
    assert stream.stored == sorted(stream.stored)
    assert (stream.stored[-1] if stream.stored else 0) == handed_on


def test_no_position_is_stored_of_changes_whose_messages_are_not_made_yet() -> None:
    """Only when the epoch is closed is it certain that they have been."""
    stream, messages, part = capturing()
    stream.change(5)
    changes = part.next_batch()
    for _ in range(3):
        part.next_batch()
    assert not stream.stored
    part.snapshot()
    messages.submit([Message("q", b"%d" % change.version) for change in changes])
    part.next_batch()
    assert not stream.stored
    messages.confirmed = 5
    part.next_batch()
    assert stream.stored == [5]


def test_a_position_is_not_waited_for_that_a_failed_publisher_would_have_to_confirm() -> None:
    stream, messages, part = capturing()
    stream.change(1)
    messages.submit([Message("q", b"1") for _ in part.next_batch()])
    messages.failure = ConnectorFailedError("it has ended by itself")
    with pytest.raises(ConnectorFailedError):
        part.finish()
    assert not stream.stored


def test_positions_of_a_quiet_stream_do_not_pile_up_behind_an_alarm() -> None:
    stream, messages, part = capturing()
    stream.change(1)
    messages.submit([Message("q", b"1") for _ in part.next_batch()])
    for _ in range(50):
        part.snapshot()
        part._committed_at = -1e9
        stream.entries.append((None, stream.read))  # type: ignore[arg-type]
        part.next_batch()
    assert len(part._closed) <= 2
    assert not stream.stored
