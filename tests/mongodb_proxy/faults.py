"""An election, as a client sees it."""

import enum
import threading
from collections.abc import Collection
from dataclasses import dataclass

from tests.mongodb_proxy.wire import Ask, ConnectionCutError, Message, failure


class Answer(enum.Enum):
    """The answer that a client gets instead of the one it asked for.

    The codes and what a driver makes of them: mongodb/specifications,
    `source/server-discovery-and-monitoring/server-discovery-and-monitoring.md`, "Not writable
    primary and node is recovering"; their names: `src/mongo/base/error_codes.yml`. That a
    connection may end before a write took effect or after it is what retryable writes are for:
    `source/retryable-writes/retryable-writes.md`.
    """

    NOT_WRITABLE_PRIMARY = 10107
    PRIMARY_STEPPED_DOWN = 189
    SHUTDOWN_IN_PROGRESS = 91
    CUT_BEFORE = -1
    """The connection ends, and the command has not been run."""
    CUT_AFTER = -2
    """The connection ends, and the command has been run: its answer is lost."""


_NAMES = {10107: "NotWritablePrimary", 189: "PrimarySteppedDown", 91: "ShutdownInProgress"}


@dataclass
class _Rule:
    commands: frozenset[str]
    answer: Answer
    skip: int
    times: int
    database: str | None


class Faults:
    """Answers some commands with a fault, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self.fired: list[tuple[str, Answer]] = []
        """What was answered, by command."""

    def fail(
        self,
        commands: Collection[str],
        answer: Answer,
        *,
        times: int = 1,
        skip: int = 0,
        database: str | None = None,
    ) -> None:
        """Fail the next of these commands.

        :param times: how many, one after the other
        :param skip: after so many that are answered as ever
        :param database: only those of this database
        """
        with self._lock:
            self._rules.append(_Rule(frozenset(commands), answer, skip, times, database))

    @property
    def pending(self) -> bool:
        """Whether there are commands still to be failed."""
        with self._lock:
            return bool(self._rules)

    def __call__(self, request: Message, ask: Ask) -> Message:
        """See `Behaviour`."""
        answer = self._of(request)
        if answer is None:
            return ask(request)
        if answer is Answer.CUT_AFTER:
            ask(request)
        if answer in (Answer.CUT_BEFORE, Answer.CUT_AFTER):
            raise ConnectionCutError
        return Message.reply(request, failure(answer.value, _NAMES[answer.value]))

    def _of(self, request: Message) -> Answer | None:
        assert request.body is not None
        with self._lock:
            for rule in self._rules:
                if request.command not in rule.commands:
                    continue
                if rule.database not in (None, request.body.get("$db")):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    return None
                rule.times -= 1
                if not rule.times:
                    self._rules.remove(rule)
                self.fired.append((request.command, rule.answer))
                return rule.answer
        return None
