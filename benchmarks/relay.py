"""How fast the cdc flow carries changes, against the tightest loop of the same libraries."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from pymongo import MongoClient

from benchmarks.place import ROOT, MeasuredFlow, Place, Servers, wait_for
from benchmarks.report import Measured
from connectors.mongodb import pipeline_name

EVENTS: Final = 30_000
TUTORIAL_EVENTS: Final = 600
ROUNDS: Final = 15
_EVENT_BYTES: Final = 1500
_TIGHTEST: Final = ("tight", "alone")
_TUTORIAL: Final = ("connection_per_message",)
_SETTLED: Final = 0.2


def relay(servers: Servers) -> dict[str, Measured]:
    """Rates by the same observer of the queue's depth, from the same point of the same oplog."""
    place = servers.place()
    start = backlog(place, EVENTS)
    rounds = []
    for _ in range(ROUNDS):
        rates = {"flow": _flow_rate(place, start)}
        rates |= {kind: _plain_rate(place, kind, EVENTS) for kind in _TIGHTEST}
        rates |= {kind: _plain_rate(place, kind, TUTORIAL_EVENTS) for kind in _TUTORIAL}
        rounds.append(rates)

    def ratios(some: Sequence[str], others: Sequence[str]) -> list[float]:
        best = [[max(map(rates.__getitem__, of)) for of in (some, others)] for rates in rounds]
        return [ours / theirs for ours, theirs in best]

    def measured(against: Sequence[str], **more: float) -> Measured:
        found = ratios(("flow",), against)
        per_s = {f"{kind}_per_s": round(median(r[kind] for r in rounds)) for kind in rounds[0]}
        return Measured(median(found), {**per_s, "rounds": [round(r, 3) for r in found], **more})

    reachable = round(median(ratios(_TIGHTEST, _TUTORIAL)), 1)
    return {
        "relay_vs_limit": measured(_TIGHTEST),
        "relay_vs_connection_per_message": measured(_TUTORIAL, of_the_tightest_loop=reachable),
    }


def posts(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Documents whose messages have about 1.5 kB."""
    chance = random.Random(seed)
    words = [
        "vector",
        "store",
        "change",
        "stream",
        "queue",
        "chunk",
        "token",
        "broker",
        "epoch",
        "résumé",
        "данные",
    ]
    made = []
    for number in range(count):
        text = " ".join(chance.choices(words, k=260))[: _EVENT_BYTES - 220]
        made.append(
            {
                "platform": "linkedin",
                "content": {"text": text},
                "author_id": f"author-{number % 50}",
                "link": f"https://example.org/posts/{number}",
            }
        )
    return made


def backlog(place: Place, events: int) -> dict[str, Any]:
    """Write events after a checkpoint of the flow; returns the checkpoint."""
    checkpoints = _checkpoints(place)
    name = {"_id": pipeline_name(place.database.name, place.broker.virtual_host, place.queue)}
    with place.flow("flows.cdc", {"CDC_SNAPSHOT": "never"}):
        wait_for("a first checkpoint", lambda: checkpoints.find_one(name))
        place.database.posts.insert_one({"content": "so that there is a token"})
        wait_for("a resume token", lambda: (checkpoints.find_one(name) or {}).get("token"))
        time.sleep(2.5)
    found = checkpoints.find_one(name)
    assert found is not None
    documents = posts(events)
    for begin in range(0, events, 1000):
        place.database.posts.insert_many(documents[begin : begin + 1000])
    return found


def _checkpoints(place: Place) -> Any:
    client: MongoClient[dict[str, Any]] = MongoClient(place.mongo_uri)
    return client[f"bench_cdc_{place.name}"].checkpoints


@contextmanager
def capturing(place: Place, start: dict[str, Any]) -> Iterator[MeasuredFlow]:
    """Run the flow from a checkpoint on, with an empty queue, for the length of a block."""
    place.delete_queues()
    place.declare()
    _checkpoints(place).replace_one({"_id": start["_id"]}, start)
    with place.flow("flows.cdc", {"CDC_SNAPSHOT": "never"}) as flow:
        yield flow
    _checkpoints(place).replace_one({"_id": start["_id"]}, start)


def _flow_rate(place: Place, start: dict[str, Any]) -> float:
    with capturing(place, start) as flow:
        return _rate(place, EVENTS, flow.process)


def _plain_rate(place: Place, kind: str, total: int) -> float:
    place.delete_queues()
    place.declare()
    arguments: Sequence[str] = (
        kind, place.mongo_uri, place.database.name, f"bench_cdc_{place.name}",
        str(place.broker.port), place.queue, str(total),
    )  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.relay_limit", *arguments]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return _rate(place, total, process)
    finally:
        process.wait(30)


def _rate(place: Place, total: int, process: "subprocess.Popen[bytes]") -> float:
    """Messages per second in the queue, once a fifth of them is there: start-up does not count."""
    first: tuple[float, int] | None = None
    with place.channel() as channel:
        while True:
            depth = channel.queue_declare(place.queue, passive=True).method.message_count
            now = time.perf_counter()
            if first is None and depth >= _SETTLED * total:
                first = (now, depth)
            if depth >= total:
                break
            if process.poll() not in (None, 0):
                raise RuntimeError(f"a relay ended with {process.returncode} at {depth} messages")
            # asking costs the broker, too: often only when the end is near
            time.sleep(0.02 if depth > 0.9 * total else 0.1)
    assert first is not None
    return float((depth - first[1]) / (now - first[0]))


if __name__ == "__main__":
    with Servers() as servers_:
        for name_, measured in relay(servers_).items():
            print(name_, json.dumps(measured.value), json.dumps(measured.detail))
