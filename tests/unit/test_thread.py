"""The thread of a connector, and the waits between its tries."""

import sys
import threading
import time
from collections.abc import Callable

import pytest

from connectors import thread
from connectors.patience import Backoff
from connectors.thread import ConnectorThread
from models.errors import ConfigurationError, ConnectorFailedError


def started(work: Callable[[], None], still_s: float = 900) -> ConnectorThread:
    one = ConnectorThread("reader", work, still_s)
    one.start()
    return one


def wait_for_end(one: ConnectorThread) -> None:
    one._thread.join(5)
    assert not one._thread.is_alive()


def waiting(over: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        over.wait()

    return wait


def check_for(one: ConnectorThread, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one.check()
        time.sleep(0.01)


def fail() -> None:
    raise OSError("the disk\nis full")


def misconfigured() -> None:
    raise ConfigurationError("RABBITMQ_PORT=0: no port")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (fail, "reader has failed: OSError: the disk is full"),
        (lambda: None, "reader has failed: RuntimeError: it has ended by itself"),
        (lambda: sys.exit(0), r"reader has failed: RuntimeError: SystemExit\(0\)"),
    ],
    ids=["exception", "plain return", "exit"],
)
def test_a_dead_thread_is_no_live_flow(work: Callable[[], None], said: str) -> None:
    one = started(work)
    wait_for_end(one)
    for _ in range(2):
        with pytest.raises(ConnectorFailedError, match=said) as caught:
            one.check()
        assert "\n" not in str(caught.value)
    one.close(1)


def test_an_error_of_a_thread_names_its_place() -> None:
    one = started(fail)
    wait_for_end(one)
    with pytest.raises(ConnectorFailedError, match=r"test_thread.py:\d+\)$"):
        one.check()


def test_a_users_mistake_stays_what_it_is() -> None:
    one = started(misconfigured)
    wait_for_end(one)
    with pytest.raises(ConfigurationError, match=r"^RABBITMQ_PORT=0"):
        one.check()


def test_a_thread_that_has_not_begun_has_not_ended() -> None:
    one = ConnectorThread("reader", fail)
    for _ in range(3):
        one.check()


def test_a_thread_that_stands_still_is_no_live_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "_WATCHED_S", 0.02)
    over = threading.Event()
    one = started(waiting(over), still_s=0.05)
    with pytest.raises(ConnectorFailedError, match="stood still"):
        check_for(one, seconds=5)
    over.set()


def test_a_process_that_did_not_look_blames_no_thread_for_that_time() -> None:
    """A stopped process, or a worker that embeds for an hour."""
    over = threading.Event()
    one = started(waiting(over), still_s=10.0)
    one.check()
    one._seen = (one._beats, time.monotonic() - 3600)
    one.check()
    over.set()


def test_a_thread_that_gets_on_is_left_alone() -> None:
    def work() -> None:
        while not one.closing:
            one.pause(0.005)

    one = ConnectorThread("reader", work, still_s=0.05)
    one.start()
    check_for(one, seconds=0.2)
    assert one.close(5)
    one.check()


def test_a_pause_ends_with_the_thread() -> None:
    def work() -> None:
        one.pause(60)

    one = ConnectorThread("reader", work)
    one.start()
    began = time.monotonic()
    assert one.close(10)
    assert time.monotonic() - began < 5
    one.check()


def test_waits_grow_to_their_bound_and_differ_between_processes() -> None:
    backoff = Backoff(first=0.1, longest=5.0)
    waits = [backoff.next() for _ in range(12)]
    assert all(
        0.8 * nominal <= wait <= 1.2 * nominal
        for nominal, wait in zip([0.1, 0.2, 0.4, 0.8, 1.6, 3.2] + [5.0] * 6, waits, strict=True)
    )
    assert len(set(waits[6:])) > 1
    backoff.reset()
    assert backoff.next() <= 0.12
