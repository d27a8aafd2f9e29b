"""What kills the process each time runs out of deliveries, and its neighbours do not."""

import time

import pytest

from connectors.qdrant import cleaned, open_reader
from connectors.rabbitmq import dead_letter_queue, publish_to_rabbitmq
from tests.chaos.harness import Flows, queue_depth
from tests.conftest import Place
from tests.deadly_features import DEADLY


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


def stored(place: Place) -> set[str]:
    with open_reader(place.qdrant) as client:
        return {(r.payload or {})["cleaned_content"] for r in client.scroll(cleaned("posts"))[0]}
