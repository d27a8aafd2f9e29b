"""`make faults`: every call of the product to a driver fails once, and three times in a row.

1. Runs without a fault record the call sites and how often each is called.
2. For each site and each error that can come as its answer the scenario runs again with that fault
   in the middle of the site's calls, and once more with the first three calls failing.
3. Sites that are called after a fault only fail as well, after that fault.
4. The table says how many sites, faults and runs there were, and what was violated.
"""

import argparse
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from connectors.rabbitmq import RabbitMQSettings
from flows.logs import escape_unencodable
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.faults.calls import Fault
from tests.faults.matrix import Run, after_faults, clean_runs, perform, plan, sites
from tests.faults.place import Servers, shared_servers
from tests.faults.report import page, report
from tests.faults.scenario import PHASES, Result

RUNS_OF_SERVERS = 200
"""SecantusDB reads its whole history when a stream is opened at a time. After two thousand runs on
one server that takes longer than the product waits for an answer.
"""


def main() -> int:
    """Run the matrix; 0 without a violation."""
    options = _options()
    shutil.rmtree(options.logs, ignore_errors=True)
    options.logs.mkdir(parents=True)
    began = time.monotonic()
    phases = [phase for phase in PHASES if options.phase in (phase, "")]
    clean = _shown(clean_runs(phases), options)
    if any(result.violations for result in clean):
        return 1
    known = sites(clean)
    runs = list(plan(known))
    for phase in phases:
        count = sum(run[0] == phase for run in runs)
        print(f"{phase}: {len(known[phase])} sites, {count} runs")
        if options.list:
            print("\n".join(f"{n:6} {site}" for site, n in sorted(known[phase].items())))
    if options.list:
        return 0
    results = _shown(_chosen(runs, options), options)
    results += _shown(list(after_faults(results, known)), options)
    minutes = (time.monotonic() - began) / 60
    print(f"{report(results)}\n\n{len(results)} runs in {minutes:.1f} min")
    if options.write:
        command = shlex.join(["python", "-m", "tests.faults", *sys.argv[1:]])
        options.write.write_text(page(results, command, minutes))
    return 1 if any(result.violations for result in results) else 0


@contextmanager
def _servers(stores: int) -> Iterator[Servers]:
    # Nobody kills these servers: what they store may be in memory.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="twinstream-faults-", dir=memory)
        folder = Path(stack.enter_context(temporary))
        mongo = stack.enter_context(MongoServer(folder / "mongodb"))
        broker = stack.enter_context(RabbitMQNode(folder / "rabbitmq"))
        settings = RabbitMQSettings(port=broker.port)
        yield stack.enter_context(shared_servers(mongo.uri, settings, folder, stores))


def _chosen(runs: list[Run], options: argparse.Namespace) -> list[Run]:
    # Shuffled, so that the runs of one call are not all at work at the same time.
    random.Random(options.seed).shuffle(runs)
    runs = [run for run in runs if options.only in f"{run[1][0].site} {run[1][0].kind}"]
    return runs[: options.sample or None]


def _shown(runs: Sequence[Run], options: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    for result in _performed(runs, options):
        results.append(result)
        verdict = "; ".join(result.violations) or "ok"
        print(
            f"{len(results)}/{len(runs)} {result.phase} {_named(result.faults)}: met {result.met}, "
            f"restarts {result.restarts}, {result.seconds:.1f} s: {verdict}",
            flush=True,
        )
    return results


def _performed(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[Result]:
    # one phase after the other, as `perform` would do it with all of them
    runs = sorted(runs, key=lambda run: list(PHASES).index(run[0]))
    for begin in range(0, len(runs), RUNS_OF_SERVERS):
        with _servers(options.stores) as servers:
            some = runs[begin : begin + RUNS_OF_SERVERS]
            yield from perform(servers, some, options.jobs, options.logs)


def _named(faults: Iterable[Fault]) -> str:
    named = (f"{f.site}: {f.kind} ({f.first}, {f.times} times)" for f in faults)
    return ", then ".join(named) or "without a fault"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only", default="", help="run only faults with this text in their name or site"
    )
    parser.add_argument("--phase", choices=PHASES, default="", help="run only faults at this time")
    parser.add_argument(
        "--sample", type=int, default=0, help="run this many faults, drawn at random"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="number of the random order (default: 1)"
    )
    parser.add_argument("--jobs", type=int, default=8, help="sessions at a time (default: 8)")
    parser.add_argument(
        "--stores", type=int, default=2, help="start this many Qdrant servers (default: 2)"
    )
    parser.add_argument("--list", action="store_true", help="list the sites of calls, and end")
    parser.add_argument(
        "--logs", type=Path, default=Path(".data/faults"), help="keep the logs of violations here"
    )
    parser.add_argument("--write", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()
    escape_unencodable()
    return options


if __name__ == "__main__":
    sys.exit(main())
