"""kill -9 of either flow under load: what is stored at the end is what a fresh sync would store."""

import pytest

from tests.chaos.harness import Flows, kill_round
from tests.conftest import Place


@pytest.mark.parametrize(
    ("partitions", "workers", "recovery", "victims"),
    [
        (1, 1, False, ("features",)),
        (1, 1, True, ("features",)),
        (1, 1, False, ("cdc",)),
        (1, 1, True, ("cdc",)),
        (4, 2, False, ("cdc", "features")),
    ],
)
def test_kill_under_load(
    place: Place, partitions: int, workers: int, recovery: bool, victims: tuple[str, ...]
) -> None:
    flows = Flows(place, partitions, workers, recovery)
    outcome = kill_round(place, flows, seed=partitions + workers, kills=4, victims=victims)
    assert outcome.kills == 4
    assert outcome.writes > 100
    assert (outcome.lost, outcome.stale, outcome.extra, outcome.dead_letters) == (0, 0, 0, 0)
