"""Sabotages of how threads and processes end."""

from tests.mutants.mutant import Mutant

THREAD = "connectors/thread.py"
LIFECYCLE = "flows/lifecycle.py"

_DRAINED = "SIGTERM finishes the work in hand"
_ENDING = "tests/integration/test_ending.py"
_AT_THE_END = "tests/chaos/test_signals.py::test_the_end_of_the_flows_gives_up_all_that_was_written"

ENDING = [
    Mutant(
        "a-dead-thread-behind-a-live-flow",
        "a dead thread ends its flow",
        THREAD,
        "        if not self._thread.is_alive() and self._failure is None:\n"
        '            self._failure = RuntimeError("it has ended by itself")\n',
        "",
        "tests/unit/test_thread.py",
    ),
    Mutant(
        "no-watchdog-over-threads",
        "a dead thread ends its flow",
        THREAD,
        "        if self._still > self._still_s and self._failure is None:\n",
        "        if False:\n",
        "tests/unit/test_thread.py",
    ),
    Mutant(
        "a-stopped-process-blames-its-threads",
        "nothing is repeated without need",
        THREAD,
        "min(now - at, _WATCHED_S)",
        "(now - at)",
        "tests/unit/test_thread.py",
    ),
    Mutant(
        "no-watchdog-over-the-end",
        _DRAINED,
        LIFECYCLE,
        "    if select.select([signals], [], [], GRACE_S)[0]:\n",
        "    if select.select([signals], [], [])[0]:\n",
        _ENDING,
    ),
    Mutant(
        "finish-is-never-called",
        _DRAINED,
        LIFECYCLE,
        "                finish()\n",
        "                pass\n",
        _ENDING,
    ),
    Mutant(
        "finish-is-never-called-in-cdc",
        _DRAINED,
        "flows/cdc.py",
        "finishing(changes)",
        "lambda: None",
        _AT_THE_END,
    ),
    Mutant(
        "finish-is-never-called-in-features",
        _DRAINED,
        "flows/features.py",
        "finishing(deliveries)",
        "lambda: None",
        _AT_THE_END,
    ),
    Mutant(
        "finishing-in-spite-of-an-error",
        "nothing is lost",
        LIFECYCLE,
        "            if stopping.is_set() and not failed.is_set():\n",
        "            if stopping.is_set():\n",
        _ENDING,
    ),
    Mutant(
        "finishing-without-a-signal",
        "nothing is lost",
        LIFECYCLE,
        "            if stopping.is_set() and not failed.is_set():\n",
        "            if not failed.is_set():\n",
        _ENDING,
    ),
    Mutant(
        "finish-does-not-wait",
        _DRAINED,
        "flows/finishing.py",
        "        while left := [source for source in left if not source.finish()]:\n"
        "            time.sleep(_LOOK_AGAIN_S)\n",
        "        for source in left:\n            source.finish()\n",
        _ENDING,
    ),
    Mutant(
        "a-failed-finish-is-a-good-end",
        _DRAINED,
        LIFECYCLE,
        "            on_error(type(error), error, error.__traceback__)\n            _leave(1)\n",
        "            on_error(type(error), error, error.__traceback__)\n",
        _ENDING,
    ),
    Mutant(
        "a-signal-waits-for-the-model",
        _DRAINED,
        LIFECYCLE,
        "        return self._looked_at or (self._running and _of_a_cluster())\n",
        "        return True\n",
        _ENDING,
    ),
]
