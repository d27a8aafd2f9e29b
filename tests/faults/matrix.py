"""Which runs there are, and doing them."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.answers import faults_of
from tests.faults.calls import Fault
from tests.faults.place import Servers
from tests.faults.scenario import PHASES, START, STREAM, Result, Session

Run = tuple[str, tuple[Fault, ...]]
"""When which calls fail."""

CLEAN_RUNS = 6
"""Which calls a program makes differs a little from run to run."""
_TOGETHER = 12
"""Runs of one session."""


def clean_runs(phases: Iterable[str] = PHASES) -> list[Run]:
    """Runs without a fault, which show the sites."""
    return [(phase, ()) for phase in phases for _ in range(CLEAN_RUNS)]


def sites(clean: Iterable[Result]) -> dict[str, Counter[str]]:
    """The call sites of each phase, and how often each was called at most."""
    counts: dict[str, Counter[str]] = {}
    for result in clean:
        counts.setdefault(result.phase, Counter())
        counts[result.phase] |= result.counts
    return counts


def plan(counts: Mapping[str, Counter[str]]) -> Iterator[Run]:
    """Every fault of every site: in the middle of its calls, and in the first three of them.

    At the start, a call that is made all the time only fails three times in a row.
    """
    for phase, of in counts.items():
        always = counts.get(STREAM, {}) if phase == START else {}
        for site in sorted(of):
            for kind in _kinds(site):
                if site not in always:
                    yield phase, (Fault(site, kind, max(1, (of[site] + 1) // 2), 1),)
                yield phase, (Fault(site, kind, 1, 3),)


def after_faults(results: Iterable[Result], known: Mapping[str, Collection[str]]) -> Iterator[Run]:
    """Faults of the sites that only a fault leads to, after that fault.

    :param known: the sites of each phase without a fault
    """
    seen = {site for of in known.values() for site in of}
    # A first call is met more surely than one in the middle.
    for result in sorted(results, key=lambda result: result.faults[-1].first):
        new = result.counts.keys() - seen
        seen |= new
        for site in sorted(new):
            for kind in _kinds(site):
                for times in (1, 3):
                    yield result.phase, (*result.faults, Fault(site, kind, 1, times))


def perform(servers: Servers, runs: Sequence[Run], jobs: int, logs: Path) -> Iterator[Result]:
    """The results of runs, as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(_session, servers, some, logs) for some in _together(runs)]
        for task in as_completed(tasks):
            yield from task.result()


def _kinds(site: str) -> list[str]:
    driver, method, _ = site.split(" ", 2)
    return faults_of(driver, method)


def _together(runs: Sequence[Run]) -> Iterator[list[Run]]:
    for phase in PHASES:
        some = [run for run in runs if run[0] == phase]
        size = 1 if phase == START else _TOGETHER
        yield from (some[begin : begin + size] for begin in range(0, len(some), size))


def _session(servers: Servers, runs: Sequence[Run], logs: Path) -> list[Result]:
    """Runs of one phase; what is left after a violation is done in another place."""
    results: list[Result] = []
    with servers.place() as place:
        with Session(place, runs[0][0]) as session:
            for _, faults in runs:
                result = session.run(faults)
                if faults and not result.met and faults[-1].first > 1 and not result.violations:
                    result = _again(session, faults)
                results.append(result)
                if result.violations:
                    break
        if results[-1].violations:
            kept = logs / place.folder.name
            shutil.copytree(place.folder, kept)
            results[-1].violations.append(f"logs: {kept}")
    if len(results) < len(runs):
        results += _session(servers, runs[len(results) :], logs)
    return results


def _again(session: Session, faults: tuple[Fault, ...]) -> Result:
    """There was no middle call: the first one fails instead."""
    if session.result.phase == START:
        return session.result
    return session.run((*faults[:-1], faults[-1]._replace(first=1)))
