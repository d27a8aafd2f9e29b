"""Where the two flows spend their time, by py-spy: `python -m benchmarks.profiles`.

py-spy must be allowed to look into another process: root, or `kernel.yama.ptrace_scope=0`.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.documents import documents, messages, publish, queues
from benchmarks.place import MeasuredFlow, Place, Servers, wait_for
from benchmarks.relay import backlog, capturing

RATE_HZ: Final = 400
FEATURES_S: Final = 20
CDC_S: Final = 3
_CHUNKS: Final = 4000
_BEGUN: Final = 2000
"""Messages after which the flow has its full speed."""
_EVENTS: Final = 80_000
"""Fewer than the embedded server keeps, which is 100,000: else it would be a snapshot."""
_OTHER_THREAD: Final = "Thread._bootstrap"

Steps = Mapping[str, Sequence[str]]
"""Names of steps and pieces of the frames that tell them, the first that fits from the leaf on."""

FEATURES: Final[Steps] = {
    "model": ("flows/embedding/",),
    "clean and chunk, in their own process": ("flows/text/",),
    "store": ("connectors/qdrant/", "qdrant_client/"),
    "broker": ("pika/", "connectors/rabbitmq/"),
}
CDC: Final[Steps] = {
    "BSON": ("bson/",),
    "JSON": ("_relaxed_json",),
    "driver of MongoDB": ("pymongo/",),
    "capture": ("connectors/mongodb/", "connectors/thread.py"),
    "message": ("models/", "operators/encode.py", "operators/attempt.py"),
    "broker": ("pika/", "connectors/rabbitmq/"),
    "Bytewax": ("run.py",),
}


def shares(samples: str, steps: Steps) -> dict[str, float]:
    """Share of each step, largest first.

    :param samples: lines of py-spy's `raw` format: frames from the root on, and a count
    """
    counts: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        counts[_step(stack.split(";"), steps)] += int(count)
    return {step: count / counts.total() for step, count in counts.most_common()}


def _step(frames: Sequence[str], steps: Steps) -> str:
    for frame in reversed(frames):
        for step, pieces in steps.items():
            if any(piece in frame for piece in pieces):
                return step
    return "all else"


def _recorded(flow: MeasuredFlow, seconds: float, folder: Path, *options: str) -> str:
    file = folder / f"{flow.module}.raw"
    command = [
        str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(flow.process.pid),
        "--format", "raw", "--rate", str(RATE_HZ), "--duration", str(seconds),
        "--output", str(file), *options,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return file.read_text()


def features(servers: Servers) -> str:
    """Samples of the features flow's worker while documents wait: its other threads only wait."""
    some, _ = documents(_CHUNKS)
    place = servers.place()
    publish(place, messages(some, queues(place)))
    with place.flow("flows.features") as flow:
        wait_for("a busy flow", lambda: flow.cpu_seconds() > 8)
        samples = _recorded(flow, FEATURES_S, place.folder)
    return "\n".join(line for line in samples.splitlines() if not line.startswith(_OTHER_THREAD))


def cdc(servers: Servers) -> str:
    """Samples of the capture flow that hold the interpreter's lock while events wait."""
    place = servers.place()
    with capturing(place, backlog(place, _EVENTS)) as flow:
        # Its processor time tells nothing: the start alone may take a second.
        wait_for("the first messages", lambda: _messages(place) > _BEGUN)
        return _recorded(flow, CDC_S, place.folder, "--gil")


def _messages(place: Place) -> int:
    with place.channel() as channel:
        return int(channel.queue_declare(place.queue, passive=True).method.message_count)


def main() -> None:
    with Servers() as servers:
        print("features:", _read(shares(features(servers), FEATURES)))
        samples = cdc(servers)
        held = sum(int(line.rpartition(" ")[2]) for line in samples.splitlines())
        print("cdc, while it holds the interpreter's lock:", _read(shares(samples, CDC)))
        print(f"cdc holds the lock for {held / (RATE_HZ * CDC_S):.0%} of the time")


def _read(found: Mapping[str, float]) -> str:
    return ", ".join(f"{step} {share:.0%}" for step, share in found.items())


if __name__ == "__main__":
    main()
