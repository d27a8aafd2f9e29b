"""How soon a commit can be found, and what both flows cost while nothing happens."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from bson import ObjectId

from benchmarks.place import MeasuredFlow, Place, Servers, wait_for
from benchmarks.report import SAMPLES, Measured
from connectors.qdrant import STORE_ERRORS, cleaned
from models import record_id

POSTS: Final = 120
IDLE_S: Final = 40.0
_LOOK_EVERY_S: Final = 0.002
_SETTLING_S: Final = 8.0


def freshness(servers: Servers) -> dict[str, Measured]:
    """One short post a second; from before the insert is sent until another client of
    the store finds the record, which is written after the chunks.
    """
    with both_flows(servers.place()) as (place, _, _):
        chance = random.Random(5)
        sent, committed = [], []
        for number in range(POSTS):
            time.sleep(1 + chance.uniform(-0.1, 0.1))
            begun, acknowledged, found = insert_and_find(place, f"Note {number}: a short post.")
            sent.append((found - begun) * 1000)
            committed.append((found - acknowledged) * 1000)
    detail = {
        "posts": POSTS,
        "from_acknowledgement_p50_ms": round(quantile(committed, 0.5), 1),
        "from_acknowledgement_p99_ms": round(quantile(committed, 0.99), 1),
        "slowest_ms": round(max(sent), 1),
    }
    samples = {SAMPLES: sorted(round(ms, 1) for ms in sent)}
    return {
        "freshness_p50_ms": Measured(quantile(sent, 0.5), {**detail, **samples}),
        "freshness_p99_ms": Measured(quantile(sent, 0.99), detail),
    }


def idle_cpu(servers: Servers) -> dict[str, Measured]:
    """Processor time of both processes over a quiet while, model loaded, connections open; and of
    a bare dataflow at the same time.
    """
    place = servers.place()
    with both_flows(place) as (_, cdc, features), place.flow("benchmarks.bare_flow") as bare:
        time.sleep(_SETTLING_S)
        flows = (cdc, features, bare)
        before = [flow.cpu_seconds() for flow in flows]
        begun = time.monotonic()
        time.sleep(IDLE_S)
        elapsed = time.monotonic() - begun
        used = [
            100 * (flow.cpu_seconds() - start) / elapsed
            for flow, start in zip(flows, before, strict=True)
        ]
    detail = {
        "cdc": round(used[0], 2), "features": round(used[1], 2), "bare": round(used[2], 2),
        "seconds": IDLE_S,
    }  # fmt: skip
    return {
        "idle_vs_bare_bytewax": Measured(max(used[:2]) / used[2], detail),
        "idle_cpu_percent": Measured(max(used[:2]), detail),
    }


@contextmanager
def both_flows(place: Place) -> Iterator[tuple[Place, MeasuredFlow, MeasuredFlow]]:
    """Both flows as real processes, once a first post has come through."""
    with place.flow("flows.features") as features, place.flow("flows.cdc") as cdc:

        def arrived() -> bool:
            cdc.check()
            features.check()
            return find_record(place, first) is not None

        first = place.database.posts.insert_one({"content": "The first post."}).inserted_id
        wait_for("the first post in the store", arrived, every=0.2)
        yield place, cdc, features


def insert_and_find(place: Place, text: str) -> tuple[float, float, float]:
    """Insert a post; the moments before, of its acknowledgement, and when it is found."""
    posts = place.database.posts
    id_ = ObjectId()
    begun = time.monotonic()
    posts.insert_one({"_id": id_, "platform": "x", "author_id": "me", "content": text})
    acknowledged = time.monotonic()
    wait_for("a post in the store", lambda: find_record(place, id_), every=_LOOK_EVERY_S)
    return begun, acknowledged, time.monotonic()


def find_record(place: Place, id_: ObjectId) -> Any:
    """Payload of the record of a post, read by a client of its own; None if missing."""
    try:
        records = place.store.retrieve(cleaned("posts"), [record_id("posts", str(id_))])
    except STORE_ERRORS:  # the flow has not made its collections yet
        return None
    return records[0].payload if records else None


def quantile(values: list[float], share: float) -> float:
    """Of 120 values, the 99th percentile is the second largest."""
    ordered = sorted(values)
    if share == 0.5:
        return float(median(ordered))
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    with Servers() as servers_:
        for measure in (freshness, idle_cpu):
            for name_, measured in measure(servers_).items():
                print(name_, measured.value, measured.detail)
