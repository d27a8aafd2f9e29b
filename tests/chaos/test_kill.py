"""kill -9 of either flow under load: what is stored at the end is what a fresh sync would store."""

from typing import Any

import pytest

from tests.chaos.harness import Flows, kill_round
from tests.conftest import Place


@pytest.mark.parametrize(
    ("flows", "victims"),
    [
        ({}, ("features",)),
        ({"recovery": True}, ("features",)),
        ({}, ("cdc",)),
        ({"recovery": True}, ("cdc",)),
        ({"bare": True}, ("cdc", "features")),
        ({"partitions": 4, "workers": 2}, ("cdc", "features")),
        ({"partitions": 4, "processes": 2}, ("cdc", "features")),
    ],
    ids=str,
)
def test_kill_under_load(place: Place, flows: dict[str, Any], victims: tuple[str, ...]) -> None:
    outcome = kill_round(place, Flows(place, **flows), seed=11, kills=4, victims=victims)
    assert outcome.kills >= 4
    assert outcome.writes > 100
    assert (outcome.lost, outcome.stale, outcome.extra, outcome.dead_letters) == (0, 0, 0, 0)
