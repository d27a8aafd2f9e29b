"""The status of the capture: how far it is, who owns it, who stands by."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from retrieval.status import _owner, _position

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
OWNER = {"pid": 7, "host": "a"}
STANDBY = {"pid": 9, "host": "b", "beat": 40}
STREAM = {"phase": "stream", "updated_at": NOW, "beat": 42, "beat_at": NOW}


def before(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "no cdc runs"),
        ({"owner": OWNER}, "owned by process 7 on a"),
        ({"owner": OWNER, "standby": STANDBY}, "owned by process 7 on a, standby process 9 on b"),
        ({"owner": OWNER, "standby": {**STANDBY, "beat": 3}}, "owned by process 7 on a"),
        (
            {"owner": OWNER, "standby": STANDBY, "beat_at": before(60)},
            "owned by process 7 on a, which has shown no sign of life for 60 s",
        ),
    ],
)
def test_the_status_names_the_owner_while_it_lives_and_a_standby_while_it_polls(
    fields: dict[str, Any], said: str
) -> None:
    assert _owner({**STREAM, **fields}, NOW) == said


def test_a_pipeline_that_is_owned_but_has_no_position_yet_is_no_error() -> None:
    assert _position({"owner": OWNER, "beat": 1}, NOW).startswith("about to begin; owned by")
    assert _position(None, NOW).startswith("no checkpoint yet")
    assert "stream, checkpoint stored" in _position({**STREAM, "owner": OWNER}, NOW)
