"""`make soak N=20`: rounds of kills at random moments, and a table of what was lost.

Each round takes another arrangement of partitions, workers, processes and recovery directories,
under a load of inserts, updates, replaces, deletes and re-inserts, and ends with the oracle.
"""

import argparse
import itertools
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from connectors.rabbitmq import RabbitMQSettings
from ops.stack import MongoServer, RabbitMQNode
from tests.chaos.harness import Flows, Outcome, kill_round
from tests.conftest import Place

ARRANGEMENTS: list[dict[str, Any]] = [
    {},
    {"recovery": True},
    {"partitions": 4},
    {"partitions": 4, "workers": 2},
    {"partitions": 4, "workers": 2, "recovery": True},
    {"partitions": 4, "processes": 2},
]
COLUMNS = (
    "arrangement", "rounds", "kills", "writes", "lost", "stale", "extra", "dead letters",
)  # fmt: skip


def main() -> int:
    """Run the rounds; 0 if nothing was lost, stale or too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10, help="kills in each round")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    arguments = parser.parse_args()
    totals: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="twinstream-soak-") as folder:
        base = Path(folder)
        with RabbitMQNode(base / "rabbitmq") as broker, MongoServer(base / "mongodb") as mongo:
            arrangements = itertools.cycle(ARRANGEMENTS)
            for number in range(arguments.rounds):
                arrangement = next(arrangements)
                work = base / str(number)
                work.mkdir()
                settings = RabbitMQSettings(port=broker.port)
                place = Place(mongo.uri, settings, uuid.uuid4().hex[:12], work)
                seed = arguments.seed + number
                flows = Flows(place, **arrangement)
                outcome = kill_round(place, flows, seed, kills=arguments.kills)
                _add(totals.setdefault(_name(arrangement), Counter()), outcome)
                print(
                    f"round {number + 1} of {arguments.rounds}, seed {seed}: {outcome}", flush=True
                )
    rows = [[name, *(str(counts[c]) for c in COLUMNS[1:])] for name, counts in totals.items()]
    total = sum(totals.values(), Counter())
    rows.append(["all", *(str(total[column]) for column in COLUMNS[1:])])
    _print(rows)
    if arguments.write:
        _write(arguments.write, rows, arguments.seed)
    return 1 if total["lost"] or total["stale"] or total["extra"] else 0


def _add(counts: Counter[str], outcome: Outcome) -> None:
    counts["rounds"] += 1
    for column in COLUMNS[2:]:
        counts[column] += getattr(outcome, column.replace(" ", "_"))


def _name(arrangement: dict[str, Any]) -> str:
    parts = [key if value is True else f"{value} {key}" for key, value in arrangement.items()]
    return ", ".join(parts) or "1 partition, 1 worker"


def _print(rows: list[list[str]]) -> None:
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _write(file: Path, rows: list[list[str]], seed: int) -> None:
    lines = [
        "# Soak",
        "",
        f"Made by `python -m tests.chaos.soak --write {file}` with seed {seed}.",
        "A kill is a SIGKILL whose exit code was seen. Lost: points that a fresh sync has and",
        "the store lacks. Stale: points with another payload or vector. Extra: points that a",
        "fresh sync does not have (resurrected documents, orphaned or duplicated chunks). Each",
        "counts lines of the oracle after all changes have arrived.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---{'|--:' * (len(COLUMNS) - 1)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
