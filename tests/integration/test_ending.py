"""How a process ends: what its sources hold is given up after a drained end, and only then."""

import signal
import subprocess
import sys
import time

import pytest

from flows.finishing import finishing
from tests.processes import ROOT

CHILD = """
import sys, time
from flows import lifecycle

lifecycle.GRACE_S = float(sys.argv[2])
stopping = lifecycle.StopSignal()


def finish():
    print("finished", flush=True)
    if sys.argv[1] == "finish fails":
        raise RuntimeError("it cannot be confirmed")


lifecycle.drain_on_signals(stopping, finish, lambda: print("closed", flush=True))
if sys.argv[1] != "not begun":
    stopping.is_set()
print("up", flush=True)
if sys.argv[1] == "ends by itself":
    sys.exit()
if sys.argv[1] == "not begun":
    time.sleep(30)
while not stopping.is_set():
    time.sleep(0.01)
if sys.argv[1] == "fails":
    raise RuntimeError("a step has failed")
if sys.argv[1] == "hangs":
    print("hanging", flush=True)
    time.sleep(30)
"""


def ended(how: str, signals: int = 1, grace: float = 20) -> tuple[int, list[str], float]:
    """Exit code of a process, what it printed, and how long it took after the signal."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, how, str(grace)], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        began = time.monotonic()
        for number in range(signals):
            if number:  # two that come at once are one
                assert process.stdout.readline() == "hanging\n"
            process.send_signal(signal.SIGTERM)
        code, seconds = process.wait(timeout=25), time.monotonic() - began
        return code, process.stdout.read().split(), seconds


def test_a_drained_process_gives_up_what_it_holds_and_then_disconnects() -> None:
    assert ended("drains")[:2] == (0, ["finished", "closed"])


def test_after_an_error_nothing_is_given_up() -> None:
    """The messages that the failed step did not write would be acknowledged with the rest."""
    assert ended("fails")[:2] == (1, ["closed"])


def test_a_dataflow_that_ended_without_a_signal_gives_nothing_up() -> None:
    """Another process of its cluster has left: its part may not have been written."""
    assert ended("ends by itself", signals=0)[:2] == (0, ["closed"])


def test_what_cannot_be_given_up_is_an_error_of_the_process() -> None:
    code, said, _ = ended("finish fails")
    assert (code, said) == (1, ["finished"])


def test_work_that_hangs_does_not_keep_the_process_alive() -> None:
    code, said, seconds = ended("hangs", grace=0.5)
    assert (code, said) == (0, ["hanging"])
    assert 0.5 <= seconds < 15


def test_a_second_signal_ends_the_wait_at_once() -> None:
    assert ended("hangs", signals=2)[0] == 128 + signal.SIGTERM


def test_before_the_first_batch_a_signal_ends_the_process_at_once() -> None:
    code, said, seconds = ended("not begun")
    assert (code, said) == (0, [])
    assert seconds < 15


class Source:
    """Has given up all it holds when it was asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed_after: int | None = None

    def finish(self) -> bool:
        self.asked += 1
        return self.asked >= 3

    def close(self) -> None:
        self.closed_after = self.asked


def test_a_source_is_asked_until_it_holds_nothing_any_more() -> None:
    sources = [Source(), Source()]
    finishing(*sources)()
    assert [(source.asked, source.closed_after) for source in sources] == [(3, 3), (3, 3)]


def test_a_source_that_cannot_give_up_what_it_holds_ends_the_wait() -> None:
    class Failed(Source):
        def finish(self) -> bool:
            raise RuntimeError("its publisher has ended")

    with pytest.raises(RuntimeError):
        finishing(Failed())()
