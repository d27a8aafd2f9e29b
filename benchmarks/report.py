"""Results: what a row measured, its target, the table and `results.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found for one row."""

    value: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What the value was made of."""
    holds: bool = True
    """Whether the conditions of the row beside its number are met as well."""
