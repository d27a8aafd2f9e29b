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
        ({}, ("qdrant",)),
        ({"bare": True}, ("cdc", "features", "qdrant")),
        ({"partitions": 4, "workers": 2}, ("cdc", "features")),
        ({"partitions": 4, "capture_processes": 2}, ("cdc", "features")),
        ({"capture_processes": 2, "capture_standby": True}, ("cdc",)),
    ],
    ids=str,
)
def test_kill_under_load(place: Place, flows: dict[str, Any], victims: tuple[str, ...]) -> None:
    outcome = kill_round(place, Flows(place, **flows), seed=11, kills=4, victims=victims)
    assert outcome.kills >= 4
    assert outcome.writes > 100
    assert outcome.wrong == 0, outcome


@pytest.mark.parametrize("standby", [False, True], ids=["cluster", "standby"])
def test_kill_one_of_two_features_processes(place: Place, standby: bool) -> None:
    """Both write to one embedded store."""
    flows = Flows(place, partitions=4, features_processes=2, standby=standby)
    outcome = kill_round(place, flows, seed=12, kills=5, victims=("features", "qdrant"))
    assert flows.kills["features"]
    assert flows.kills["qdrant"]
    assert outcome.wrong == 0, outcome
