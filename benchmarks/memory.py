"""How much the features process grows while a backlog waits, the embedded store left out."""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.documents import chunker, messages, publish
from benchmarks.place import MeasuredFlow, Place, Servers, wait_for
from benchmarks.relay import posts
from benchmarks.report import Measured
from models import Message

MESSAGES: Final = 100_000
REPOSITORIES: Final = 20
REPOSITORY_BYTES: Final = 10 * 2**20
_FILES: Final = 64
_LONGEST_S: Final = 400.0
_SETTLING_S: Final = 5.0


def memory(servers: Servers) -> dict[str, Measured]:
    """Resident memory at its peak over that of the idle process, for each of the backlogs."""
    small, small_done = _growth(servers.place(), MESSAGES, _posts)
    large, large_done = _growth(servers.place(), REPOSITORIES, _repositories)
    detail = {
        "messages_100k_mb": round(small, 1),
        "repositories_20x10mb_mb": round(large, 1),
        "handled_while_watched": [small_done, large_done],
    }
    return {"backlog_memory_mb": Measured(max(small, large), detail)}


def _growth(
    place: Place, count: int, made: Callable[[Place], Iterator[list[Message]]]
) -> tuple[float, int]:
    """Growth in MB, and how many messages were handled when the watch ended.

    The idle process is one that waits at an empty queue. Then the flow is stopped, the backlog is
    put in place, and the flow is started again with all of it waiting.
    """
    log = place.folder / f"log-{place.name}"
    environment = {"BENCH_EMBEDDER": "hashing", "BENCH_STORE": "none", "BENCH_LOG": str(log)}
    place.declare()
    with place.flow("benchmarks.timed_features", environment) as flow:
        publish(place, messages([("posts", {"_id": 0, "content": "x"})], [place.queue]))
        wait_for("the first message", lambda: flow.check() or _handled(log) >= 1)
        time.sleep(_SETTLING_S)
        idle = flow.memory_mb()
    for some in made(place):
        publish(place, some)
    with place.flow("benchmarks.timed_features", environment) as flow:
        peak = _peak(flow, log, count + 1)
    handled = _handled(log) - 1
    place.delete_queues()
    return peak - idle, handled


def _peak(flow: MeasuredFlow, log: Path, until: int) -> float:
    """Most memory seen until all is handled, at most for some minutes."""
    deadline = time.monotonic() + _LONGEST_S
    peak = 0.0
    while time.monotonic() < deadline and _handled(log) < until:
        flow.check()
        peak = max(peak, flow.memory_mb())
        time.sleep(0.05)
    return peak


def _handled(log: Path) -> int:
    total = 0
    for file in log.parent.glob(f"{log.name}-*"):
        with file.open("rb") as lines:
            lines.seek(max(0, file.stat().st_size - 200))
            rows = [row for row in lines.read().splitlines() if row.endswith(b"]")]
        total += json.loads(rows[-1])[2] if rows else 0
    return total


def _posts(place: Place) -> Iterator[list[Message]]:
    documents = posts(MESSAGES // 10)
    for round_ in range(10):
        some: list[tuple[str, dict[str, Any]]] = [
            ("posts", {"_id": f"{round_}/{number}", **document})
            for number, document in enumerate(documents)
        ]
        yield messages(some, [place.queue])


def _repositories(place: Place) -> Iterator[list[Message]]:
    source = Path(random.__file__).read_text() + Path(json.__file__).read_text()
    cutter = chunker()
    assert cutter.split(source[:1000], code=True)
    for number in range(REPOSITORIES):
        files = {}
        for index in range(_FILES):
            times = REPOSITORY_BYTES // _FILES // len(source) + 1
            text = f"# {number} {index}\n" + source * times
            files[f"package/module_{index}.py"] = text[: REPOSITORY_BYTES // _FILES]
        yield messages([("repositories", {"_id": number, "content": files})], [place.queue])


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured in memory(servers_).items():
            print(name_, measured.value, measured.detail)
