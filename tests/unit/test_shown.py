"""Nothing that a document holds reaches a terminal as an order, or passes for a line of ours."""

import io
import json
import logging
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.patience import Patience
from flows import replay
from flows.lifecycle import one_line_errors
from flows.logs import SafeFormatter, complain_at_length
from flows.settings import Settings
from models import Version
from models.dead_letters import describe
from models.errors import ConfigurationError
from models.shown import LIMIT, shown, shown_as_json
from models.stored import Stored
from retrieval import search, status
from retrieval.hits import Hit

HOSTILE = (
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # writes the clipboard
    "\x1b[2J\x1b[H",  # clears the screen
    "\x9b31m\x9d0;title\x9c",  # the same orders in one byte, C1
    "a\nreconcile: nothing is wrong\r\n",  # passes for a line of ours
    "\x08\x08\x7f\x0e",  # rubs out what was there, changes the character set
    "txt.exe\u202egnp",  # reverses what follows
    "\u2028\u2029\x85",  # other line breaks
    "\ud800",  # nothing that can be encoded
)
EVIL = "".join(HOSTILE)


def is_safe(text: str, lines: int | None = None) -> bool:
    text.encode()
    control = [c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\n"]
    reversing = [c for c in text if "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"]
    return not (control or reversing) and (lines is None or text.count("\n") == lines)


@given(st.text(st.characters(codec=None)))
def test_a_shown_value_is_one_safe_line(text: str) -> None:
    assert is_safe(shown(text), lines=0)


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=LIMIT))
def test_words_of_every_language_are_shown_as_they_are(text: str) -> None:
    assert shown(text) == text


def test_joined_emoji_and_letters_are_shown_as_they_are() -> None:
    assert shown("👩‍💻 می‌خواهم") == "👩‍💻 می‌خواهم"


def test_what_is_hidden_can_be_seen() -> None:
    assert shown("\x1b[2J\n\u202e") == r"\x1b[2J\n\u202e"


def test_a_value_of_millions_of_characters_is_one_short_line() -> None:
    assert len(shown("\x1b" * 10**7)) == LIMIT
    assert shown("x" * LIMIT) == "x" * LIMIT


@given(st.recursive(st.text(st.characters(codec="utf-8")), st.lists, max_leaves=5))
def test_json_is_safe_and_means_the_same(value: Any) -> None:
    assert is_safe(shown_as_json(value))
    assert json.loads(shown_as_json(value)) == value


def hits() -> list[Hit]:
    return [
        Hit(0.5, type_, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, f"{EVIL}\n{EVIL}", EVIL, context=EVIL)
        for type_ in ("posts", "repositories")
    ]


@pytest.mark.parametrize("arguments", [["q"], ["q", "--json"]], ids=["text", "json"])
def test_search_shows_no_terminal_escapes_of_a_document(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_opened", lambda: nullcontext(Mock()))
    monkeypatch.setattr(search, "_search", lambda *_: (hits(), [None, None]))
    assert search.main(arguments) == 0
    out = capsys.readouterr().out
    assert is_safe(out)
    # nothing of it begins a line as if it were another hit, or an answer of ours
    assert not any(line.startswith("reconcile") for line in out.splitlines())


def test_search_says_what_a_server_answered_on_one_safe_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> list[Hit]:
        raise ValueError(EVIL)

    monkeypatch.setattr(search, "_opened", lambda: nullcontext(Mock()))
    monkeypatch.setattr(search, "_search", refuse)
    assert search.main(["q"]) == 1
    assert is_safe(capsys.readouterr().err, lines=1)


def test_status_shows_no_terminal_escapes_of_a_system(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mongodb(settings: Settings, problems: list[str]) -> tuple[dict[str, int], str]:
        problems.append(f"MongoDB says {EVIL}")
        return {"posts": 1}, f"snapshot of {EVIL}"

    monkeypatch.setenv("MONGO_DATABASE_HOST", "mongodb://127.0.0.1:1")
    monkeypatch.setattr(status, "_mongodb", mongodb)
    monkeypatch.setattr(status, "_queues", lambda settings, problems: {EVIL: EVIL})
    monkeypatch.setattr(status, "_store", lambda settings, problems: {})
    assert status.main() == 1
    assert is_safe(capsys.readouterr().out)


class DeadLetterQueue:
    """A channel with one letter, of a document with a hostile name."""

    def __init__(self, headers: Mapping[str, Any]) -> None:
        self._letters = [(SimpleNamespace(delivery_tag=1), headers)]

    def queue_declare(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(method=SimpleNamespace(message_count=len(self._letters)))

    def basic_get(self, queue: str) -> Any:
        method, headers = self._letters.pop()
        return method, pika.BasicProperties(headers=dict(headers)), b"{}"

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class NewerStore:
    def read(self, keys: list[Any]) -> dict[Any, Stored]:
        return dict.fromkeys(keys, Stored(version=Version(2**63 - 1)))


def test_replay_shows_no_terminal_escapes_of_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    headers = {"document_type": "posts", "document_id": EVIL, "version": int(time.time()) << 32}
    channel: Any = DeadLetterQueue(headers)
    store: Any = NewerStore()
    assert replay.replay(channel, Settings.from_env({}), store) == (0, 1)
    out = capsys.readouterr().out
    assert "superseded" in out
    assert is_safe(out, lines=1)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("connectors")
    log.addHandler(handler)
    yield output
    log.removeHandler(handler)


def test_a_log_record_is_one_safe_line_whatever_a_server_answers(logged: io.StringIO) -> None:
    Patience("Qdrant", lambda error: True).away(ConnectionError(EVIL))
    logging.getLogger("connectors").warning("it is %s", EVIL)
    assert is_safe(logged.getvalue(), lines=2)


def test_no_line_of_a_traceback_passes_for_a_log_record(logged: io.StringIO) -> None:
    try:
        raise ValueError(f"first\nWARNING connectors: forged{EVIL}")
    except ValueError:
        logging.getLogger("connectors").exception("it failed", stack_info=True)
    text = logged.getvalue()
    assert is_safe(text)
    first, *others = text.splitlines()
    assert first == "ERROR connectors: it failed"
    assert all(line.startswith("    ") for line in others)


def test_the_log_of_a_process_is_safe(capfd: pytest.CaptureFixture[str]) -> None:
    # What `configure_logging` installs, in a process of its own: pytest has handlers already.
    code = (
        "import logging; from flows.logs import configure_logging; configure_logging('INFO');"
        f"logging.getLogger('flows').warning({EVIL!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert is_safe(capfd.readouterr().err, lines=1)


def test_a_configuration_error_is_one_safe_line() -> None:
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        raise ConfigurationError(EVIL)
    assert is_safe(str(exit_.value.code), lines=0)


def test_the_reason_of_a_dead_letter_is_one_safe_line() -> None:
    assert is_safe(describe(ValueError(EVIL)), lines=0)


def test_the_traceback_of_a_flow_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        complain_at_length(error)
    text = capsys.readouterr().err
    assert is_safe(text)
    assert text.startswith("Traceback")
