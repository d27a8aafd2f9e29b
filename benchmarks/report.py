"""The rows, their targets, the table and `results.json`."""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

RESULTS: Final = Path(__file__).parent / "results.json"
SAMPLES: Final = "samples_ms"
"""The detail that holds every single measurement, for the plot; too long for the table."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found for one row."""

    value: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What the value was made of."""
    holds: bool = True
    """Whether the conditions of the row beside its number are met as well."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a row: a value at least or at most; neither, if it is only reported."""

    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "report" if self.at_most is None else f"<= {self.at_most:g}"

    def met_by(self, measured: Measured) -> bool | None:
        """None where there is nothing to meet."""
        if self.at_least is None and self.at_most is None:
            return None
        value = measured.value
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        return low and high and measured.holds


def entry(name: str, target: Target, measured: Measured) -> dict[str, Any]:
    """One row of `results.json`."""
    return {
        "name": name,
        "value": round(float(measured.value), 3),
        "unit": target.unit,
        "target": str(target),
        "met": target.met_by(measured),
        "detail": dict(measured.detail),
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def load() -> dict[str, dict[str, Any]]:
    """Entries of earlier runs by name."""
    if not RESULTS.exists():
        return {}
    return {row["name"]: row for row in json.loads(RESULTS.read_text())["rows"]}


def save(rows: Mapping[str, dict[str, Any]], order: list[str]) -> None:
    """Write `results.json`, in the order of the table."""
    known = [rows[name] for name in order if name in rows]
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": known}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The machine on which the numbers were measured."""
    import os

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_at_the_end": [round(load, 1) for load in os.getloadavg()],
    }


def show(rows: Mapping[str, dict[str, Any]], names: list[str]) -> None:
    """Print the table."""
    table = Table("row", "value", "target", "met", "made of")
    for name in names:
        if (row := rows.get(name)) is None:
            continue
        shown = {key: value for key, value in row["detail"].items() if key != SAMPLES}
        detail = ", ".join(f"{key} {value}" for key, value in shown.items())
        met = {True: "yes", False: "NO", None: ""}[row["met"]]
        value = f"{row['value']:g} {row['unit']}".strip()
        table.add_row(name, value, row["target"], met, detail)
    Console(width=160).print(table)


Benchmark = Callable[[Any], dict[str, Measured]]
