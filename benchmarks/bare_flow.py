"""A dataflow that does nothing, as often as an idle flow looks for work: the floor of idleness."""

from datetime import datetime

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink

from connectors.pace import Pace


class _Nothing(StatefulSourcePartition[int, None]):
    def __init__(self) -> None:
        self._pace = Pace()

    def next_batch(self) -> list[int]:
        return []

    def next_awake(self) -> datetime | None:
        return self._pace.next_awake()

    def snapshot(self) -> None:
        return None


class _NothingSource(FixedPartitionedSource[int, None]):
    def list_parts(self) -> list[str]:
        return ["nothing"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Nothing:
        return _Nothing()


def flow() -> Dataflow:
    """One input, one output."""
    bare = Dataflow("bare")
    op.output("out", op.input("in", bare, _NothingSource()), TestingSink([]))
    return bare
