"""Work on text in another process: the same results, and an end to what would have none."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from flows.text import bounded
from flows.text.bounded import BoundedText
from flows.text.chunk import Chunker
from flows.text.clean import clean_texts
from models.errors import ConfigurationError, ContentRefusedError
from tests.hashing import HashingEmbedder
from tests.hostile_text import DEADLY, ENDLESS
from tests.processes import ROOT

MODEL = (HashingEmbedder().tokenizer, 254)


def hostile(seconds: float = 0.3) -> BoundedText:
    return BoundedText(lambda: MODEL, seconds, child="tests.hostile_text")


@pytest.fixture(scope="module")
def text() -> Iterator[BoundedText]:
    text = hostile()
    yield text
    text.close()


def processes(text: BoundedText) -> list[int]:
    return [child._process.pid for child in text._idle]


def test_another_process_does_the_same(text: BoundedText) -> None:
    texts = ["**bold** \ud800 😀 \0", "", "word " * 2000, "# Title\n\ntext"]
    assert text.clean(texts) == clean_texts(texts)
    pieces = [("word " * 2000, False), ("def f():\n    pass\n" * 300, True), ("", False)]
    assert text.split_all(pieces) == Chunker(*MODEL).split_all(pieces)


def test_a_text_that_takes_for_ever_is_refused_and_its_neighbours_are_not(
    text: BoundedText,
) -> None:
    ticks = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.01):
            ticks.append(time.monotonic())

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    began = getrusage(RUSAGE_CHILDREN).ru_utime
    with pytest.raises(ContentRefusedError, match=r"^cleaning its texts .* processor time"):
        text.clean(["before", ENDLESS])
    done.set()
    ticking.join()
    assert getrusage(RUSAGE_CHILDREN).ru_utime - began < 3, "0.3 s, and a start"
    # Heartbeats go on: nobody here holds Python's lock meanwhile.
    assert max(later - earlier for earlier, later in pairwise(ticks)) < 0.25
    assert text.clean(["**after**"]) == ["after"]


def test_a_text_that_ends_its_process_is_refused_and_its_neighbours_are_not(
    text: BoundedText, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ContentRefusedError, match="status -9"):
        text.clean([DEADLY])
    assert len(caplog.records) == bounded.TRIES
    assert text.clean(["**after**"]) == ["after"]


def test_a_process_that_somebody_killed_is_replaced(text: BoundedText) -> None:
    text.clean(["a"])
    [child] = processes(text)
    os.kill(child, signal.SIGKILL)
    assert text.clean(["**a**"]) == ["a"]


def test_signals_of_the_terminal_do_not_end_the_process(text: BoundedText) -> None:
    text.clean(["a"])
    [child] = processes(text)
    assert os.getsid(child) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    text.clean(["a"])
    assert processes(text) == [child]


def test_as_many_processes_as_threads_ask_at_the_same_time(text: BoundedText) -> None:
    started = threading.Barrier(3)

    def ask() -> None:
        started.wait()
        for _ in range(20):
            text.clean(["word " * 1000])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(processes(text)) <= 3
    text.close()
    assert not processes(text)


def test_a_process_that_hangs_is_replaced(
    text: BoundedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    text.close()
    text.clean(["a"])
    [child] = processes(text)
    monkeypatch.setattr(bounded, "STALLED_S", 0.5)
    os.kill(child, signal.SIGSTOP)
    assert text.clean(["**a**"]) == ["a"]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_what_cannot_start_is_told_at_once_and_waited_for_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No document is to blame for a machine that has no room for a process."""
    text = BoundedText(lambda: MODEL, child="tests.no_such_module")
    with pytest.raises(ConfigurationError, match="does not start"):
        text.load()

    def come_to_reason(_seconds: float) -> None:
        text._module = "flows.text.child"

    monkeypatch.setattr(time, "sleep", come_to_reason)
    assert text.clean(["**a**"]) == ["a"]
    assert "waiting" in caplog.text
    text.close()


@pytest.mark.parametrize("busy", [False, True])
def test_the_process_ends_with_its_parent_even_after_kill_9(busy: bool) -> None:
    code = (
        "import time; from tests.integration.test_bounded import *; text = hostile(2);"
        "text.clean(['a']); print(*processes(text), flush=True);"
        f"text.clean([{(ENDLESS if busy else 'a')!r}]); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # by then the text is in hand
        parent.kill()
    deadline = time.monotonic() + 15
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
