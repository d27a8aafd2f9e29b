"""A disk under the embedded store that is full or broken, and many restarts meanwhile."""

import subprocess
import sys
from contextlib import closing
from functools import partial

import pytest

from connectors.qdrant import QdrantStore, cleaned, open_client, open_reader
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.rabbitmq import dead_letter_queue
from connectors.rabbitmq.consumer import CAREFUL_AFTER
from models import DOCUMENT_TYPES
from tests.chaos.harness import Flows, queue_depth
from tests.chaos.test_confirms import drain, ended, fill, left, wait_until
from tests.conftest import Place
from tests.hashing import HashingEmbedder
from tests.processes import ROOT
from tests.sick_disk_store import FULL

SICK = (FULL, "Input/output error (os error 5)")
MESSAGES = 40
LIVES = 20


@pytest.mark.slow
def test_a_sick_disk_through_twenty_restarts_makes_no_dead_letters(place: Place) -> None:
    """The flow ended with the error, and after 20 restarts all 40 messages were dead letters."""
    disk = place.folder / "sick"
    fill(place, MESSAGES, 0)
    with closing(open_client(place.qdrant)) as client:
        QdrantStore(client, DOCUMENT_TYPES).ensure_collections(HashingEmbedder.dimension)
    stop(StoreFolder(place.qdrant.path))
    flows = Flows(place)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.sick_disk_store", disk, "--data", place.qdrant.path],
        cwd=ROOT,
    )
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
        assert server.poll() is None
    finally:
        ended(flows)
        server.terminate()
        server.wait()
    assert queue_depth(place, dead_letter_queue(place.queue)) == 0
    with open_reader(place.qdrant) as client:
        assert client.count(cleaned("posts")).count == MESSAGES


def refused(flows: Flows, times: int) -> bool:
    flows.check()
    return flows.running["features"].output().count("Qdrant refuses, waiting") >= times
