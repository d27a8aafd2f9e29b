"""`make soak N=20`: rounds of kills at random moments, and a table of what was lost.

Each round takes another arrangement of partitions, workers, processes and recovery directories,
under a load of inserts, updates, replaces, deletes and re-inserts, and ends with the oracle.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from connectors.rabbitmq import RabbitMQSettings
from flows.logs import escape_unencodable
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.chaos.harness import Flows, Outcome, kill_round
from tests.conftest import Place, end_store

ARRANGEMENTS: list[dict[str, Any]] = [
    {},
    {"recovery": True},
    {"partitions": 4},
    {"partitions": 4, "workers": 2},
    {"partitions": 4, "workers": 2, "recovery": True},
    {"partitions": 4, "capture processes": 2},
    {"partitions": 4, "capture processes": 2, "capture standby": True},
    {"partitions": 4, "features processes": 2},
    {"partitions": 4, "features processes": 2, "standby": True},
]
COLUMNS = (
    "arrangement", "rounds", "kills", "documents", "writes", "lost", "stale", "resurrected",
    "duplicated", "dead letters",
)  # fmt: skip


def main() -> int:
    """Run the rounds; 0 if nothing was lost, stale or too much."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.soak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=20, help="default: 20")
    parser.add_argument("--kills", type=int, default=10, help="kills in each round (default: 10)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first round (default: the time)"
    )
    parser.add_argument("--write", type=Path, help="write the report to this Markdown file")
    arguments = parser.parse_args()
    escape_unencodable()
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
                outcome = _round(place, arrangement, arguments.seed + number, arguments.kills)
                _add(totals.setdefault(_name(arrangement), Counter()), outcome)
                print(
                    f"round {number + 1} of {arguments.rounds}, "
                    f"seed {arguments.seed + number}, {_name(arrangement)}: {outcome}",
                    flush=True,
                )
    rows = [[name, *(str(counts[c]) for c in COLUMNS[1:])] for name, counts in totals.items()]
    total = sum(totals.values(), Counter())
    rows.append(["all", *(str(total[column]) for column in COLUMNS[1:])])
    table = _table(rows)
    print(table)
    if arguments.write:
        arguments.write.write_text(_report(table, arguments))
    return 1 if sum(total[column] for column in COLUMNS[5:]) else 0


def _round(place: Place, arrangement: dict[str, Any], seed: int, kills: int) -> Outcome:
    """One arrangement; all processes of the features flow share a store, killed as well."""
    flows = {key.replace(" ", "_"): value for key, value in arrangement.items()}
    with ExitStack() as stack:
        stack.callback(end_store, place)
        running = Flows(place, **flows, chance=random.Random(seed))
        victims = ["cdc", "features", "qdrant"]
        return kill_round(place, running, seed, kills=kills, victims=victims)


def _add(counts: Counter[str], outcome: Outcome) -> None:
    counts["rounds"] += 1
    for column in COLUMNS[2:]:
        counts[column] += getattr(outcome, column.replace(" ", "_"))


def _name(arrangement: dict[str, Any]) -> str:
    parts = [key if value is True else f"{value} {key}" for key, value in arrangement.items()]
    return ", ".join(parts) or "1 partition, 1 worker"


def _table(rows: list[list[str]]) -> str:
    """In Markdown: numbers of any width, whatever the terminal's."""
    head = [COLUMNS, ["---", *["--:"] * (len(COLUMNS) - 1)]]
    return "".join(f"| {' | '.join(row)} |\n" for row in [*head, *rows])


def _report(table: str, arguments: argparse.Namespace) -> str:
    given = f"--rounds {arguments.rounds} --kills {arguments.kills} --seed {arguments.seed}"
    return f"""# Soak

Made by `python -m tests.chaos.soak {given}`.
A kill is a SIGKILL after which the process was seen to be gone. Victims are both flows and
the server of the embedded store, which all processes of the features flow share. Points are
counted once all changes have arrived. Lost: a fresh sync has the point, and the store does not.
Stale: its payload or vector differs. Resurrected: MongoDB does not have its document.
Duplicated: a document has more points than a fresh sync gives it.

{table}"""


if __name__ == "__main__":
    sys.exit(main())
