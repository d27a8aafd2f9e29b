"""The order of all changes of a cluster."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

MAX_ORDINAL: Final = 2**31 - 1
"""The ordinal of what was read at a cluster time or later, and so has seen all its changes: rows
of a snapshot, its sweep, and repairs.

A row is read at V0 or later and carries (V0, MAX_ORDINAL). The stream that follows begins at V0,
inclusive: of the changes that a transaction made at exactly V0, the row holds the last, so the
earlier ones must lose against it. They would win against (V0, 0) and show an older state until
the next one comes. Nothing is lost: what the row does not hold was changed later than V0, and the
stream brings that. For the same reason a document that the scan does not find may still be stored
with (V0, k); the stream brings its delete, so the sweep goes no further than (V0 - 1, MAX_ORDINAL).

A repair is read at V0 or later, too. A document whose last change was the fourth of a transaction
at exactly V0 is stored with (V0, 3): a repair with (V0, 0) would be dropped for as long as nothing
else is written to the cluster.

All of this needs a scan that cannot read the past: on the primary, in a session that has been
advanced to V0.
"""


class Version(NamedTuple):
    """When a change was made: a total order, also within a transaction."""

    time: int
    """clusterTime: seconds << 32 | increment."""
    ordinal: int = 0
    """Place among the changes of the same cluster time, which those of one transaction share."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Version":
        """The version in the headers of a message or in a payload; without `ordinal`, which the
        first release did not write, it is the first change of its time.

        :raises ValueError: `version` or `ordinal` is no integer of their range
        """
        time = _integer("version", fields.get("version"), bits=63)
        return cls(time, _integer("ordinal", fields.get("ordinal", 0), bits=31))

    def fields(self) -> dict[str, int]:
        """Its form in headers and payloads."""
        return {"version": self.time, "ordinal": self.ordinal}


NEVER: Final = Version(-1)
"""Older than any change."""


def _integer(name: str, value: Any, bits: int) -> int:
    # pika reads a 64-bit header as a subclass of int
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**bits:
        raise ValueError(f"{name} {value!r:.80} is not an integer from 0 to 2**{bits} - 1")
    return int(value)
