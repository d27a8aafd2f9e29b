"""`make faults` generates its sites and faults: nothing has to be listed by hand."""

from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.faults.answers import ANSWERS, faults_of
from tests.faults.calls import DRIVERS, ROOT, Calls, Fault, arm, methods, recorded


def frame_in(file: Path) -> FrameType:
    """A frame of code that seems to stand in a file."""
    names: dict[str, Any] = {}
    exec(compile("import sys\ndef ask():\n    return sys._getframe()", str(file), "exec"), names)
    frame: FrameType = names["ask"]()
    return frame


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_method_of_a_driver_is_without_faults(driver: str) -> None:
    named = [f"{one.__name__}.{name}" for one in DRIVERS[driver] for name in methods(driver, one)]
    assert len(named) > 20
    assert [method for method in named if not faults_of(driver, method)] == []
    assert driver in ANSWERS


def test_every_line_of_product_code_that_calls_a_driver_is_a_site(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "control")
    inside = frame_in(ROOT / "connectors" / "new.py")
    assert calls.site(inside, "pika", "Channel.tx_select") == (
        "pika Channel.tx_select connectors/new.py:ask:3"
    )
    assert calls.site(frame_in(tmp_path / "pika" / "new.py"), "pika", "Channel.tx_select") is None


def test_a_fault_meets_the_calls_that_it_names_and_no_others(tmp_path: Path) -> None:
    control, record = tmp_path / "control", tmp_path / "record"
    calls = Calls(control)
    arm(control, [Fault("site", "lost", 2, 3)], record)
    assert [calls.due("site") for _ in range(6)] == [None, "lost", "lost", "lost", None, None]
    assert calls.due("other") is None
    assert recorded(record) == ({"site": 1, "other": 1}, {"site": 3})


def test_what_is_armed_anew_forgets_the_fault_before(tmp_path: Path) -> None:
    control, record = tmp_path / "control", tmp_path / "record"
    calls = Calls(control)
    arm(control, [Fault("site", "lost", 1, 3)], tmp_path / "old")
    assert calls.due("site") == "lost"
    arm(control, [], record)
    assert [calls.due("site") for _ in range(3)] == [None] * 3
    assert recorded(record) == ({"site": 3}, {})
