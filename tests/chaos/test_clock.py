"""The wall clock of the flows is set back while they run."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.harness import Flows, settle
from tests.conftest import Place

SHIM = Path(__file__).with_name("clock_shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


class Clock:
    """The wall clock of the processes that run with `environment`."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "clock.so", folder / "clock.offset"
        self._offset.write_text("0")
        command = [str(COMPILER), "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"]
        subprocess.run(command, check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "CLOCK_OFFSET_FILE": str(self._offset),
        }

    def set(self, seconds: int) -> None:
        """Seconds by which the clock is wrong from now on."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._offset)


@pytest.mark.parametrize("recovery", [False, True])
def test_a_clock_that_is_set_back_does_not_stall_the_flows(place: Place, recovery: bool) -> None:
    clock = Clock(place.folder)
    flows = Flows(place, extra=clock.environment, recovery=recovery)
    with flows.both():
        place.database.posts.insert_one({"_id": "before", "content": "all is well"})
        assert settle(place, flows, 60) == []
        processes = {name: flow.process.pid for name, flow in flows.running.items()}
        clock.set(-600)
        place.database.posts.insert_many(
            {"_id": number, "content": f"post {number}"} for number in range(10)
        )
        began = time.monotonic()
        assert settle(place, flows, 90) == []
        assert time.monotonic() - began < 90
        for name, flow in flows.running.items():
            assert "the clock was set back by 600 s: starting again" in flow.output()
            assert flow.process.pid == processes[name]
        assert set(flows.stop().values()) == {0}


def test_a_small_step_is_sat_out(place: Place) -> None:
    clock = Clock(place.folder)
    flows = Flows(place, extra=clock.environment)
    with flows.both():
        place.database.posts.insert_one({"_id": "before", "content": "all is well"})
        assert settle(place, flows, 60) == []
        clock.set(-3)
        place.database.posts.insert_one({"_id": "after", "content": "still well"})
        assert settle(place, flows, 60) == []
        assert "the clock was set back by 3.0 s: waiting as long" in flows.running["cdc"].output()
        assert "starting again" not in flows.running["cdc"].output()
