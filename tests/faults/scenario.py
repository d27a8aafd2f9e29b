"""What happens while calls fail, and what must come of it.

A run ends well in one of two ways. Either the program goes on by itself and the store is in sync.
Or it ends with one line and an exit code that is not 0, and is in sync after a start without the
fault. A program that lives and does nothing, a traceback, a document that MongoDB has and the store
has not, and a dead letter that is gone are violations.
"""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.answers.qdrant import CONTENT
from tests.faults.calls import CONTROL, Fault, arm, recorded
from tests.faults.place import Document, FaultPlace
from tests.faults.programs import COMMANDS, FLOW, PRUNE_S, Program
from tests.faults.writes import Writes

REPLAY, RECONCILE = COMMANDS
START, STREAM, END = "start", "stream", "end"
PHASES = {START: FLOW, STREAM: FLOW, END: FLOW, REPLAY: REPLAY, RECONCILE: RECONCILE}
"""When calls fail, and which program makes them."""
SYNC_S = 150.0
END_S = 60.0
COMMAND_S = 240.0
CONTENT_S = 5.0
"""How long a refusal of content is left alone, before dead letters are put back."""
_LOGGED = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ "
    # how Bytewax itself says that a source has raised an error
    r"|thread '.*' panicked at |Box<dyn Any>|note: run with `RUST_BACKTRACE=1`|$"
)
_READY = "ready: SIGTERM ends this flow"
_SAID = re.compile(r"(configuration error|error|replay|reconcile): ")


@dataclass
class Result:
    """What one run came to."""

    phase: str
    faults: tuple[Fault, ...]
    """None in a run that shows what is called; two where one leads to a call that fails, too."""
    violations: list[str] = field(default_factory=list)
    met: int = 0
    """Calls that met the last of the faults."""
    restarts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """How often each site was called; after a fault, only which ones were."""
    seconds: float = 0.0


class Session:
    """Runs of one phase in one place, one after the other. In each, the flow is in sync before the
    faults and after them; a process of it lives as long as it can.
    """

    def __init__(self, place: FaultPlace, phase: str) -> None:
        self._place = place
        self._phase = phase
        self._control = place.folder / "control"
        self._writes = Writes(place)
        self._flow: Program | None = None
        self._number = 0
        self._faults: tuple[Fault, ...] = ()
        self._content = False
        self.result = Result(phase, ())

    def run(self, faults: tuple[Fault, ...]) -> Result:
        """One run; what was wrong stands in the result, and ends the session."""
        self.result = Result(self._phase, faults)
        self._faults = faults
        self._content = any(fault.kind in CONTENT for fault in faults)
        self._number += 1
        record = self._place.folder / f"calls {self._number}"
        began = time.monotonic()
        try:
            steps = {
                START: self._start_fails,
                STREAM: self._stream_fails,
                END: self._end_fails,
                REPLAY: self._replay_fails,
                RECONCILE: self._reconcile_fails,
            }
            steps[self._phase](lambda: arm(self._control, faults, record))
        except AssertionError as error:
            self.result.violations.append(str(error))
        self.result.counts, met = recorded(record)
        self.result.met = met[faults[-1].site] if faults else 0
        self.result.seconds = time.monotonic() - began
        return self.result

    def __enter__(self) -> "Session":
        self._disarm()
        self._first = self._writes.first()
        return self

    def __exit__(self, *_: object) -> None:
        if self._flow is not None:
            self._flow.signal(signal.SIGKILL)
            self._flow.wait(10)

    # What happens

    def _start_fails(self, armed: Callable[[], None]) -> None:
        """From the start to the first changes after the snapshot."""
        armed()
        self._start_flow()
        self._in_sync(self._first)
        self._has_letters({("posts", "poison 0")})
        self._in_sync(self._writes.round(1))
        self._has_letters({("posts", "poison 1")})
        self._end()

    def _stream_fails(self, armed: Callable[[], None]) -> None:
        """Edits, deletes, a drop, a transaction, a dead letter, forgetting of old tombstones."""
        self._alive()
        old = self._writes.bury()
        armed()
        self._in_sync(self._writes.round(self._number))
        self._has_letters({("posts", f"poison {self._number}")})
        if not self._faults:
            forgotten = lambda: not self._place.is_buried(old)  # noqa: E731
            self._until(forgotten, "the old tombstone is still there")

    def _end_fails(self, armed: Callable[[], None]) -> None:
        """The flow is asked to end while it has much to do; nothing of that is lost."""
        self._alive()
        state = self._writes.last(self._number)
        time.sleep(0.15)
        armed()
        self._end()
        self._disarm()
        self._start_flow()
        self._in_sync(state)
        self._has_letters({("posts", f"poison {self._number}")})

    def _replay_fails(self, armed: Callable[[], None]) -> None:
        """A letter that fails again, one that is superseded, one too old, one of no document."""
        self._alive()
        number = self._number
        self._writes.for_replay(number)
        self._has_letters({("posts", f"poison {number}"), ("posts", f"mended {number}")})
        state = self._writes.mend(number)
        self._in_sync(state)
        armed()
        self._command(REPLAY)
        self._in_sync(state)
        self._has_letters({("posts", f"poison {number}"), ("posts", "old"), ("", "no document")})

    def _reconcile_fails(self, armed: Callable[[], None]) -> None:
        """Points that are missing, changed, and of no document; forgetting of old tombstones."""
        if self._flow is None:
            self._alive()
            self._in_sync(self._writes.round(1))
        self._writes.damage()
        assert self._place.differences("round 1"), "nothing was damaged"
        old = self._writes.bury()
        armed()
        self._command(RECONCILE)
        self._in_sync("round 1")
        assert self._faults or not self._place.is_buried(old), "the old tombstone is still there"

    # What must come of it

    def _in_sync(self, when: str) -> None:
        """Wait until both sides agree; starts the flow again where it has ended with one line."""
        began = time.monotonic()
        helps = iter((REPLAY, REPLAY, RECONCILE) if self._content else ())
        while left := self._place.differences(when):
            if self._restarted():
                began = time.monotonic()
            waited = time.monotonic() - began
            if self._content and waited > CONTENT_S and (command := next(helps, "")):
                self._succeeds(command)
                began = time.monotonic()
            assert waited < SYNC_S, (
                f"alive and not in sync after {when}: {'; '.join(left[:3])}{self._stacks()}"
            )
            time.sleep(0.1)

    def _restarted(self) -> bool:
        assert self._flow is not None
        if self._flow.code is None:
            return False
        self._ended_well(FLOW, self._flow.code)
        assert self.result.restarts < 2, f"ends again and again: {self._last_lines(FLOW)}"
        self.result.restarts += 1
        self._disarm()
        self._start_flow()
        return True

    def _has_letters(self, wanted: set[Document]) -> None:
        """Wait until these dead letters are there; none may be of a document that is no poison,
        unless content was refused.
        """
        found: set[Document] = set()

        def there() -> bool:
            nonlocal found
            self._restarted()
            found = self._place.letters()
            return found >= wanted

        self._until(there, f"not all of {sorted(wanted)} are dead letters")
        more = found - self._writes.poison
        assert self._content or not more, f"more dead letters than poison: {sorted(more)}"

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + SYNC_S
        while not condition():
            assert time.monotonic() < deadline, f"{otherwise}{self._stacks()}"
            time.sleep(0.1)

    def _command(self, module: str) -> None:
        """The command that meets the fault; a second one where that has failed."""
        code = self._finished(self._start(module, {CONTROL: str(self._control)}), module)
        if code == 0:
            return
        self._ended_well(module, code)
        self.result.restarts += 1
        self._succeeds(module)

    def _succeeds(self, module: str) -> None:
        code = self._finished(self._start(module), module)
        assert code == 0, f"{module} ended with {code}, without a fault: {self._last_lines(module)}"

    def _finished(self, program: Program, module: str) -> int:
        code = program.wait(COMMAND_S)
        if code is None:
            program.signal(signal.SIGUSR1)
            time.sleep(0.5)
            program.signal(signal.SIGKILL)
        assert code is not None, f"{module} did not end: {self._last_lines(module, 30)}"
        return code

    def _end(self) -> None:
        """SIGTERM ends the flow; where it had ended before, with one line."""
        assert self._flow is not None
        self._flow.signal(signal.SIGTERM)
        code = self._flow.wait(END_S)
        assert code is not None, f"SIGTERM did not end the flow{self._stacks()}"
        if code != 0:
            self._ended_well(FLOW, code)
            self.result.restarts += 1

    def _ended_well(self, module: str, code: int) -> None:
        assert code >= 0, f"{module} was ended by signal {-code}: {self._last_lines(module)}"
        assert code != 0, f"{module} ended by itself with 0: {self._last_lines(module)}"
        lines = self._lines(module)
        said = [line for line in lines if not _LOGGED.match(line)]
        fine = bool(said) and _SAID.match(said[-1]) is not None
        fine &= module != FLOW or all(_SAID.match(line) for line in said)
        assert fine, f"{module} ended with {code} and not with one line: {' | '.join(said[-6:])}"

    # Programs

    def _alive(self) -> None:
        """The flow runs and is in sync; no letters are left of the run before."""
        self._disarm()
        if self._flow is None:
            self._start_flow()
            self._in_sync(self._first)
            self._has_letters({("posts", "poison 0")})
        self._place.forget_letters()

    def _disarm(self) -> None:
        arm(self._control, (), self._place.folder / "calls without faults")

    def _start_flow(self) -> None:
        fails = PHASES[self._phase] == FLOW
        self._flow = self._start(FLOW, {CONTROL: str(self._control), PRUNE_S: "0"} if fails else {})

    def _start(self, module: str, extra: dict[str, str] | None = None) -> Program:
        environment = {**self._place.environment, **(extra or {})}
        return self._place.start(module, environment, self._log(module))

    def _log(self, module: str) -> Path:
        return self._place.folder / f"{module}.log"

    def _lines(self, module: str) -> Sequence[str]:
        log = self._log(module)
        return log.read_text(errors="replace").splitlines() if log.exists() else []

    def _last_lines(self, module: str, count: int = 3) -> str:
        return " | ".join(self._lines(module)[-count:])

    def _stacks(self) -> str:
        """Has a flow that hangs write its stacks to its log; the last lines of that."""
        if self._flow is not None:
            self._flow.signal(signal.SIGUSR1)
            time.sleep(0.5)
        return f" [{self._last_lines(FLOW, 4)}]"
