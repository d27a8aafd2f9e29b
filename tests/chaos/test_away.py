"""Dependencies that go away: connections cut, servers restarted. Nobody exits, nothing is lost."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pika
import pytest
from bson import ObjectId

from connectors.rabbitmq import RabbitMQSettings, dead_letter_queue, topology
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.chaos.harness import Flows, Load, queue_depth, settle
from tests.chaos.proxy import Proxy
from tests.conftest import Place


def port_of(uri: str) -> int:
    found = re.search(r":(\d+)", uri.removeprefix("mongodb:"))
    assert found
    return int(found[1])


def under_load(place: Place, flows: Flows, fault: Callable[[], None], times: int) -> None:
    """Run both flows, let `fault` happen a few times while documents change, then settle."""
    load = Load(place, seed=7, documents=60)
    load.insert_all()
    with flows.both():
        with load.running():
            time.sleep(3.0)
            for _ in range(times):
                fault()
                time.sleep(1.5)
        assert settle(place, flows, 90) == []
        assert set(flows.stop().values()) == {0}
    assert queue_depth(place, dead_letter_queue(place.queue)) == 0


def test_connections_to_the_broker_are_cut(place: Place) -> None:
    with Proxy(place.rabbitmq.port) as proxy:
        flows = Flows(place, extra={"RABBITMQ_PORT": str(proxy.port)})
        under_load(place, flows, partial(proxy.cut, at_least=2), times=3)
        assert proxy.cuts >= 6


def test_connections_to_mongodb_are_cut(place: Place) -> None:
    with Proxy(port_of(place.mongo_uri)) as proxy:
        # directConnection: the driver would otherwise follow the advertised address around us
        uri = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        flows = Flows(place, extra={"MONGO_DATABASE_HOST": uri})
        under_load(place, flows, partial(proxy.cut, at_least=1), times=3)
        assert proxy.cuts >= 3


@pytest.mark.slow
def test_the_broker_is_killed_and_restarted(place: Place, tmp_path: Path) -> None:
    with RabbitMQNode(tmp_path / "own-broker") as node:
        here = replace(place, rabbitmq=RabbitMQSettings(port=node.port))
        # by us, long before the first kill: RabbitMQ 3.10.8 loses a queue that is new (runbook)
        with pika.BlockingConnection(here.rabbitmq.parameters()) as connection:
            for declaration in topology(here.queue):
                connection.channel().queue_declare(**declaration)
        restarts = []

        def restart() -> None:
            node.kill()
            node.restart()
            restarts.append(node.port)

        flows = Flows(here)
        under_load(here, flows, restart, times=2)
        assert restarts == [node.port] * 2
        logs = [process.output() for process in flows.running.values()]
        for log in logs:
            away = log.count("RabbitMQ is away")
            assert 1 <= away <= 8, log[-3000:]
            assert "RabbitMQ is back" in log


@pytest.mark.slow
def test_mongodb_is_killed_and_restarted(place: Place, tmp_path: Path) -> None:
    with MongoServer(tmp_path / "own-mongodb") as server:
        here = replace(place, mongo_uri=server.uri, name=str(ObjectId()))
        restarts = []

        def restart() -> None:
            server.kill()
            server.restart()
            restarts.append(server.port)

        under_load(here, Flows(here), restart, times=2)
        assert restarts == [server.port] * 2


def test_flows_that_start_before_their_servers_wait_for_them(place: Place) -> None:
    with Proxy(place.rabbitmq.port) as broker, Proxy(port_of(place.mongo_uri)) as mongo:
        broker.refuse(True)
        mongo.refuse(True)
        uri = f"mongodb://127.0.0.1:{mongo.port}/?directConnection=true"
        extra = {"RABBITMQ_PORT": str(broker.port), "MONGO_DATABASE_HOST": uri}
        flows = Flows(place, extra=extra)
        Load(place, seed=1, documents=20).insert_all()
        with flows.both():
            time.sleep(6)
            flows.check()
            broker.refuse(False)
            mongo.refuse(False)
            assert settle(place, flows, 60) == []
            for process in flows.running.values():
                assert process.output().count("is away") <= 3
            assert set(flows.stop().values()) == {0}


@pytest.mark.slow
def test_an_alarm_of_the_broker_only_delays(place: Place, tmp_path: Path) -> None:
    """Out of disk by its own account, the broker blocks publishers; then it is given space."""
    node = RabbitMQNode(
        tmp_path / "own-broker", extra_config={"disk_free_limit.absolute": "900000GB"}
    )
    with node:
        here = replace(place, rabbitmq=RabbitMQSettings(port=node.port))
        flows = Flows(here)
        Load(here, seed=2, documents=40).insert_all()
        with flows.both():
            deadline = time.monotonic() + 20
            while "blocked by the broker" not in flows.running["cdc"].output():
                flows.check()
                assert time.monotonic() < deadline, flows.running["cdc"].output()
                time.sleep(0.2)
            time.sleep(3)
            flows.check()
            node.extra_config = {}
            node.restart()
            assert settle(here, flows, 60) == []
            assert set(flows.stop().values()) == {0}
        assert queue_depth(here, dead_letter_queue(here.queue)) == 0


def test_qdrant_is_killed_and_restarted(served: Place) -> None:
    """Its engine and gRPC services, see `tests.qdrant_server`."""
    server = served.server
    assert server is not None
    kills = []

    def restart() -> None:
        server.kill()
        kills.append(server.running)
        time.sleep(2.0)
        server.start()

    flows = Flows(served)
    under_load(served, flows, restart, times=3)
    assert kills == [False] * 3
    log = flows.running["features"].output()
    assert 1 <= log.count("Qdrant is away") <= 4, log[-3000:]
    assert log.count("Qdrant is away") == log.count("Qdrant is back")


def test_connections_to_qdrant_are_cut(served: Place) -> None:
    with Proxy(served.qdrant.grpc_port) as proxy:
        flows = Flows(served, extra={"QDRANT_GRPC_PORT": str(proxy.port)})
        under_load(served, flows, partial(proxy.cut, at_least=1), times=4)
        assert proxy.cuts >= 4


def test_a_flow_ends_in_time_while_qdrant_is_away(served: Place) -> None:
    assert served.server is not None
    load = Load(served, seed=3, documents=30)
    load.insert_all()
    flows = Flows(served)
    with flows.both():
        assert settle(served, flows, 60) == []
        served.server.kill()
        for _ in range(30):
            load.step()
        deadline = time.monotonic() + 20
        while "Qdrant is away" not in flows.running["features"].output():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert flows.running["features"].terminate(timeout=10) == 0
        flows.start("features")  # before the server
        time.sleep(3)
        flows.check()
        served.server.start()
        assert settle(served, flows, 60) == []
        assert set(flows.stop().values()) == {0}
    assert queue_depth(served, dead_letter_queue(served.queue)) == 0


def test_a_queue_changes_hands_while_its_consumer_still_writes(served: Place) -> None:
    """The broker loses one of two features processes and gives its queues to the other one."""
    with Proxy(served.rabbitmq.port) as proxy:
        flows = Flows(served, partitions=4, features_processes=2, standby=True)
        flows.extra_of["features-0"] = {"RABBITMQ_PORT": str(proxy.port)}
        under_load(served, flows, partial(proxy.cut, at_least=1), times=6)
        assert proxy.cuts >= 6
