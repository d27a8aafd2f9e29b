"""Several things that are harmless alone, at the same time."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.qdrant import STORE_ERRORS, open_client
from connectors.rabbitmq import RabbitMQSettings, dead_letter_queue, queue_names
from models import DOCUMENT_TYPES
from ops.rabbitmq_node import RabbitMQNode, find_rabbitmq_server
from tests.chaos.harness import Flows, Load, queue_depth, settle
from tests.chaos.test_confirms import ended, wait_until
from tests.conftest import Place
from tests.processes import ROOT

PARTITIONS = 4


def control(node: RabbitMQNode, *command: str) -> None:
    """Have a running node do something."""
    assert node.process is not None
    entries = Path(f"/proc/{node.process.pid}/environ").read_bytes().split(b"\0")
    environment = dict(entry.decode().partition("=")[::2] for entry in entries if entry)
    program = find_rabbitmq_server().with_name("rabbitmqctl")
    name = ("-n", environment["RABBITMQ_NODENAME"])
    subprocess.run([program, *name, *command], env=environment, check=True, timeout=200)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RabbitMQNode]:
    with RabbitMQNode(tmp_path / "own-broker") as node:
        yield node


def documents(place: Place) -> int:
    client = open_client(place.qdrant)
    try:
        names = [place.qdrant.collections.cleaned(type_) for type_ in DOCUMENT_TYPES]
        return sum(client.count(name).count for name in names)
    except STORE_ERRORS:
        return 0
    finally:
        client.close()


def reconcile(place: Place, log: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **place.environment, "RABBITMQ_PARTITIONS": str(PARTITIONS)}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.hashing_reconcile"],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 1 + int(os.environ.get("ROUNDS", "1"))))
def test_an_alarm_in_a_snapshot_beside_a_reconciliation_loses_nothing(
    served: Place, node: RabbitMQNode, seed: int
) -> None:
    """Two features processes share the queues; one of them is killed meanwhile, and cdc, which
    then begins a snapshot that the broker does not take. `ROUNDS` says how many seeds.
    """
    place = replace(served, rabbitmq=RabbitMQSettings(port=node.port))
    chance = random.Random(seed)
    load = Load(place, seed, documents=300)
    load.insert_all()
    place.database.posts.insert_many([{"_id": f"poison {n}", "content": 5} for n in range(5)])
    flows = Flows(
        place, partitions=PARTITIONS, features_processes=2, standby=True, chance=chance,
        extra={"RABBITMQ_PREFETCH": "50", "CDC_SNAPSHOT": "always"},
    )  # fmt: skip
    commands = []
    with flows.both():
        try:
            wait_until("a part of the documents", lambda: documents(place) > 20)
            control(node, "set_disk_free_limit", "900000GB")
            with load.running():
                commands.append(reconcile(place, place.folder / "reconcile-1.log"))
                time.sleep(chance.uniform(2, 4))
                flows.kill("features")
                commands.append(reconcile(place, place.folder / "reconcile-2.log"))
                time.sleep(chance.uniform(2, 4))
                flows.kill("cdc")
                time.sleep(chance.uniform(4, 6))
                flows.check()
                control(node, "set_disk_free_limit", "50MB")
                time.sleep(chance.uniform(1, 3))
            assert settle(place, flows, 200) == []
            assert [command.wait(200) for command in commands] == [0, 0]
            assert settle(place, flows, 60) == []
            dlq = dead_letter_queue(place.queue)
            wait_until("the dead letters", lambda: queue_depth(place, dlq) >= 5)
            assert set(flows.stop().values()) == {0}
        finally:
            for command in commands:
                command.kill()
                command.wait()
    ended(flows)
    told = {properties.headers["document_id"] for properties, _ in place.messages(dlq)}
    assert told == {f"poison {n}" for n in range(5)}
    assert [queue_depth(place, queue) for queue in queue_names(place.queue, PARTITIONS)] == [0] * 4
