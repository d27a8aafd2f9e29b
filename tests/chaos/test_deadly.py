"""A message that kills the process each time runs out of deliveries; its neighbours do not."""

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from connectors.qdrant import STORE_ERRORS, cleaned, open_reader
from connectors.rabbitmq import dead_letter_queue, publish_to_rabbitmq
from models.errors import StoreUnavailableError
from tests.chaos.harness import Flows, queue_depth
from tests.conftest import Place
from tests.deadly_features import DEADLY
from tests.hostile_text import DEADLY as TAKES_ITS_PROCESS_WITH_IT
from tests.hostile_text import ENDLESS


@pytest.mark.slow
def test_what_kills_the_process_each_time_dies_alone(place: Place) -> None:
    texts = [f"text {number}" for number in range(10)]
    texts.insert(5, DEADLY)
    for number, text in enumerate(texts):
        body = {"type": "posts", "entry_id": str(number), "content": text}
        publish_to_rabbitmq(place.queue, body, settings=place.rabbitmq)
    flows = Flows(place, features="tests.deadly_features")
    dlq = dead_letter_queue(place.queue)
    lives = 0
    deadline = time.monotonic() + 180
    while queue_depth(place, dlq) == 0:
        assert time.monotonic() < deadline
        flows.start("features")
        lives += 1
        process = flows.running["features"].process
        while process.poll() is None and queue_depth(place, dlq) == 0:
            time.sleep(0.1)
        if process.poll() is not None:
            assert process.returncode == -9
    assert lives > 3
    flows.running["features"].kill()
    flows.start("features")
    with flows.running["features"] as running:
        # acknowledged by the last epoch: it is alive, and nothing is left for it
        while stored(place) != set(texts) - {DEADLY} and time.monotonic() < deadline:
            running.check()
            time.sleep(0.5)
    assert stored(place) == set(texts) - {DEADLY}
    [(properties, body)] = place.messages(dlq)
    assert DEADLY.encode() in body
    assert properties.headers["x-first-death-reason"] == "delivery_limit"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_text_that_takes_for_ever_dies_alone_and_no_process_with_it(
    place: Place, workers: int
) -> None:
    """A pattern that takes hours held Python's lock: no heartbeat, no signal, no ack."""
    texts = [f"text {number}" for number in range(10)]
    hostile = [ENDLESS, f"{ENDLESS}, too", TAKES_ITS_PROCESS_WITH_IT]
    contents = [*texts[:5], *hostile, *texts[5:]]
    place.database["posts"].insert_many([{"content": text} for text in contents])
    flows = Flows(place, features="tests.hostile_features", workers=workers, partitions=workers)
    dlq, most = dead_letter_queue(place.queue), 0
    deadline = time.monotonic() + 90
    with flows.both():
        running = flows.running["features"]
        while stored_by(place) != set(texts) or queue_depth(place, dlq) < len(hostile):
            flows.check()
            assert time.monotonic() < deadline, running.output()[-2000:]
            most = max(most, len(children_of(running.process.pid)))
            time.sleep(0.2)
        assert set(flows.stop().values()) == {0}
    assert 1 <= most <= workers
    letters = place.messages(dlq)
    assert sorted(json.loads(body)["content"] for _, body in letters) == sorted(hostile)
    for properties, body in letters:
        expected = "status -9" if TAKES_ITS_PROCESS_WITH_IT.encode() in body else "processor time"
        assert expected in properties.headers["reason"]
        assert properties.headers["stage"] == "clean"


def stored_by(place: Place) -> set[str]:
    """The same of a store that the flow may not have made yet."""
    try:
        return stored(place)
    except (StoreUnavailableError, *STORE_ERRORS):
        return set()


def children_of(parent: int) -> list[str]:
    """The processes that work on texts: not the server of the store, nor what has just ended or not
    yet begun (its command line is empty, or its parent's).
    """
    tasks = Path(f"/proc/{parent}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in children if b"tests.hostile_text" in command_line(child)]


def command_line(pid: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def stored(place: Place) -> set[str]:
    with open_reader(place.qdrant) as client:
        if not client.collection_exists(cleaned("posts")):
            return set()  # the flow has made its folder, and no collection yet
        return {(r.payload or {})["cleaned_content"] for r in client.scroll(cleaned("posts"))[0]}
