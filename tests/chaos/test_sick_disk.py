"""A disk under the embedded store that is full, broken or locked, and many restarts meanwhile."""

from functools import partial

import pytest

from connectors.qdrant import cleaned, open_reader
from connectors.rabbitmq import dead_letter_queue
from connectors.rabbitmq.consumer import CAREFUL_AFTER
from tests.chaos.harness import Flows, queue_depth
from tests.chaos.test_confirms import drain, ended, fill, left, wait_until
from tests.conftest import Place
from tests.sick_disk_features import SICK_DISK

SICK = ("database or disk is full", "disk I/O error", "database is locked")
MESSAGES = 40
LIVES = 20


@pytest.mark.slow
def test_a_sick_disk_through_twenty_restarts_makes_no_dead_letters(place: Place) -> None:
    """The flow ended with the error, and after 20 restarts all 40 messages were dead letters."""
    disk = place.folder / "sick"
    fill(place, MESSAGES, 0)
    flows = Flows(place, features="tests.sick_disk_features", extra={SICK_DISK: str(disk)})
    try:
        for life in range(LIVES):
            disk.write_text(SICK[life % len(SICK)])
            flows.start("features")
            wait_until("a refusal", partial(refused, flows, life + 1))
            if life < CAREFUL_AFTER:  # then the others have had their share of deliveries
                wait_until("the whole prefetch", lambda: left(place) == 0)
            flows.running["features"].kill()
            wait_until("the messages", lambda: left(place) == MESSAGES)
        disk.unlink()
        flows.start("features")
        drain(flows, place)
    finally:
        ended(flows)
    assert queue_depth(place, dead_letter_queue(place.queue)) == 0
    with open_reader(place.qdrant) as client:
        assert client.count(cleaned("posts")).count == MESSAGES


def refused(flows: Flows, times: int) -> bool:
    flows.check()
    return flows.running["features"].output().count("Qdrant refuses, waiting") >= times
