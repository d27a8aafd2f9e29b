"""The fast part of `make faults`: some of its runs, of each driver and each program."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.rabbitmq import RabbitMQSettings
from tests.faults.matrix import perform, plan, sites
from tests.faults.place import Servers, shared_servers
from tests.faults.scenario import PHASES, START, STREAM

RUNS = 1
"""Of each phase; of a start and of a stream, three times as many."""


@pytest.fixture
def servers(mongo_uri: str, rabbitmq: RabbitMQSettings, tmp_path: Path) -> Iterator[Servers]:
    with shared_servers(mongo_uri, rabbitmq, tmp_path, stores=1) as shared:
        yield shared


def test_a_call_that_fails_loses_nothing(servers: Servers, tmp_path: Path) -> None:
    clean = list(perform(servers, [(phase, ()) for phase in PHASES], 3, tmp_path))
    assert [(result.phase, result.violations) for result in clean if result.violations] == []
    known = sites(clean)
    assert {site.split()[0] for site in known[STREAM]} == {"pymongo", "pika", "qdrant"}
    chance = random.Random(8)
    everything = list(plan(known))
    runs = [
        run
        for phase in PHASES
        for run in chance.sample(
            [run for run in everything if run[0] == phase],
            RUNS * (3 if phase in (START, STREAM) else 1),
        )
    ]
    results = list(perform(servers, runs, 4, tmp_path))
    assert len(results) == len(runs)
    assert sum(result.met > 0 for result in results) > len(results) / 2
    assert [(r.phase, r.faults, r.violations) for r in results if r.violations] == []
