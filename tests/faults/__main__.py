"""`make faults`: every call of the product to a driver fails once, and three times in a row.

1. One run without a fault records the call sites and how often each is called.
2. For each site and each error that can come as its answer the scenario runs again with that fault
   in the middle of the site's calls, and once more with the first three calls failing.
3. The table says how many sites, faults and runs there were, and what was violated.
"""

import argparse
import random
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.rabbitmq import RabbitMQSettings
from flows.logs import escape_unencodable
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.conftest import Place
from tests.faults.answers import faults_of
from tests.faults.calls import Fault
from tests.faults.scenario import COMMANDS, FLOW, Result, Scenario
from tests.qdrant_server import QdrantServer


@dataclass
class Servers:
    """What all runs share."""

    mongo: MongoServer
    broker: RabbitMQNode
    qdrant: QdrantServer
    folder: Path

    def run(self, program: str, fault: Fault | None) -> Result:
        """One scenario in a place of its own."""
        name = uuid.uuid4().hex[:12]
        folder = self.folder / name
        folder.mkdir()
        settings = RabbitMQSettings(port=self.broker.port)
        place = Place(self.mongo.uri, settings, name, folder)
        with QdrantServer(folder / "qdrant-server") as server:
            return Scenario(replace(place, server=server), program, fault).run()


def plan(program: str, counts: Counter[str]) -> Iterator[Fault]:
    """Every fault of every site that a run without faults has recorded."""
    for site in sorted(counts):
        driver, method, _ = site.split(" ", 2)
        for kind in faults_of(driver, method):
            yield Fault(site, kind, max(1, (counts[site] + 1) // 2), 1)
            yield Fault(site, kind, 1, 3)


def main() -> int:
    """Run the matrix; 0 without a violation."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only", default="", help="run only faults with this text in their name or site"
    )
    parser.add_argument(
        "--program", choices=[FLOW, *COMMANDS], help="run the faults of this program only"
    )
    parser.add_argument(
        "--sample", type=int, default=0, help="run this many faults, drawn at random"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random draw (default: 1)")
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time (default: 4)")
    parser.add_argument(
        "--list", action="store_true", help="list the sites of calls, and run nothing"
    )
    parser.add_argument("--write", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args()
    escape_unencodable()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinstream-faults-")))
        servers = Servers(
            stack.enter_context(MongoServer(folder / "mongodb")),
            stack.enter_context(RabbitMQNode(folder / "rabbitmq")),
            None,  # type: ignore[arg-type]
            folder,
        )
        runs: list[tuple[str, Fault]] = []
        for program in [options.program] if options.program else (FLOW, *COMMANDS):
            clean = servers.run(program, None)
            if clean.violations:
                print(f"{program} without a fault: {clean.violations}", file=sys.stderr)
                return 1
            if options.list:
                for site, count in sorted(clean.counts.items()):
                    print(f"{count:6} {site}")
            runs += [(program, fault) for fault in plan(program, clean.counts)]
        if options.list:
            return 0
        runs = [run for run in runs if options.only in f"{run[1].site} {run[1].kind}"]
        if options.sample:
            runs = random.Random(options.seed).sample(runs, min(options.sample, len(runs)))
        results: list[Result] = []
        with ThreadPoolExecutor(options.jobs) as pool:
            for result in pool.map(lambda run: servers.run(*run), runs):
                results.append(result)
                verdict = "; ".join(result.violations) or "ok"
                print(
                    f"{len(results)}/{len(runs)} {result.program} {result.fault} "
                    f"met {result.met}, restarts {result.restarts}, {result.seconds:.0f} s: "
                    f"{verdict}",
                    flush=True,
                )
    table = report(results)
    print(table)
    if options.write:
        options.write.write_text(table)
    return 1 if any(result.violations for result in results) else 0


def report(results: list[Result]) -> str:
    """The table, in Markdown."""
    lines = [
        "| call | from | faults | runs | met | ended and restarted | violations |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    by_site: dict[str, list[Result]] = {}
    for result in results:
        assert result.fault is not None
        by_site.setdefault(result.fault.site, []).append(result)
    for site, some in sorted(by_site.items()):
        driver, method, where = site.split(" ", 2)
        kinds = ", ".join(dict.fromkeys(r.fault.kind for r in some if r.fault))
        met = sum(result.met > 0 for result in some)
        restarts = sum(result.restarts for result in some)
        violations = sum(bool(result.violations) for result in some)
        lines.append(
            f"| {driver} `{method}` | `{where}` | {kinds} | {len(some)} | {met} | {restarts} "
            f"| {violations} |"
        )
    met = sum(result.met > 0 for result in results)
    violations = sum(bool(result.violations) for result in results)
    lines.append(f"| all | {len(by_site)} sites | | {len(results)} | {met} | | {violations} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
