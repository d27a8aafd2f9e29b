"""`make mutants`: sabotages the product in every listed way; the tests that claim it must fail.

Each mutant has a copy of the tree and runs its own tests there, on servers that all share. It is
killed when one of them fails, and has survived when all pass. Verdicts are kept in `.data`, so the
whole may be done in parts. Exit code 0 when none of those that were run survives.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.logs import escape_unencodable
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.verdicts import Verdict, digest, keep, kept, page, verdict

LIMIT_S = 420


def main() -> int:
    """Run them; 0 if all are killed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", default="", help="run only mutants with this text in their name")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument(
        "--untouched", action="store_true", help="run their tests on the unchanged tree"
    )
    parser.add_argument(
        "--rest", action="store_true", help="run only those without a verdict of an earlier run"
    )
    parser.add_argument(
        "--write", type=Path, help="write the table of all verdicts to this Markdown file"
    )
    options = parser.parse_args()
    escape_unencodable()
    some = [mutant for mutant in MUTANTS if options.only in mutant.name]
    if options.rest:
        known = kept()
        some = [m for m in some if m.name not in known or known[m.name].mutant != digest(m)]
    with tempfile.TemporaryDirectory(prefix="twinstream-mutants-") as name:
        folder = Path(name)
        with RabbitMQNode(folder / "rabbitmq") as broker, MongoServer(folder / "mongodb") as mongo:
            environment = {
                **os.environ,
                "CI": "true",
                "RABBITMQ_HOST": "127.0.0.1",
                "RABBITMQ_PORT": str(broker.port),
                "MONGO_DATABASE_HOST": mongo.uri,
            }
            if options.untouched:
                tests = sorted({test for mutant in some for test in mutant.tests.split()})
                done = _pytest(ROOT, tests, environment, LIMIT_S * 10)
                print(done.stdout[-3000:])
                return done.returncode
            with ThreadPoolExecutor(options.jobs) as pool:
                verdicts = []
                for mutant, found in zip(
                    some, pool.map(lambda m: _try(m, folder, environment), some), strict=True
                ):
                    verdicts.append(found)
                    keep(mutant.name, found)
                    print(
                        f"{len(verdicts)}/{len(some)} {mutant.name}: {found.outcome} {found.by} "
                        f"({found.seconds:.0f} s)",
                        flush=True,
                    )
    if options.write:
        options.write.write_text(page(MUTANTS))
    return 0 if all(found.outcome == "killed" for found in verdicts) else 1


def _try(mutant: Mutant, folder: Path, environment: dict[str, str]) -> Verdict:
    began = time.monotonic()
    tree = folder / mutant.name
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout.decode()
    for file in filter(None, files.split("\0")):
        if (ROOT / file).is_file():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, tree / file)
    (tree / ".venv").symlink_to((ROOT / ".venv").resolve())
    mutant.apply(tree)
    done = _pytest(tree, mutant.tests.split(), environment, LIMIT_S)
    shutil.rmtree(tree)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
    outcome = {0: "survived", 1: "killed", 124: "killed"}.get(done.returncode, "broken")
    by = "no end" if done.returncode == 124 else failed[1] if failed else ""
    if outcome == "broken":
        print(done.stdout[-1500:], file=sys.stderr)
    return verdict(mutant, outcome, by, time.monotonic() - began)


def _pytest(
    tree: Path, tests: Sequence[str], environment: dict[str, str], limit: float
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # A session of its own: what a test that hangs has started ends with it.
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
            return subprocess.CompletedProcess(command, process.returncode, output)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return subprocess.CompletedProcess(command, 124, output)


if __name__ == "__main__":
    sys.exit(main())
