"""Collects what authors publish: reads each source of `sources.toml` into MongoDB.

    sources → prepare → write → report
                    ↘ failures ↗

`python -m bytewax.run flows.collect` keeps looking, each source at its interval.
`python -m flows.collect --once` reads each source once; exit code 1 if a source, or a document of
one, could not be read or written.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source as BytewaxSource
from bytewax.outputs import Sink
from bytewax.testing import run_main
from pymongo import MongoClient

from connectors.collect.polling import Polled, PollingSource
from connectors.mongodb import CollectedStore
from flows.collected import Report, Reported
from flows.command import run_command
from flows.lifecycle import StopSignal, collect_rarely, drain_on_signals, one_line_errors
from flows.logs import complain, say
from flows.operators.collect import Policy, Writer
from flows.operators.readable import readable
from flows.recovery import check_recovery
from flows.settings import Settings, secrets
from models import DOCUMENT_TYPES
from models.collected import Run, Step, Tally
from models.errors import ConfigurationError

try:
    from flows.sources import Source, SourcesError, load_sources
except ModuleNotFoundError as error:  # as in the image of the flows
    sys.exit(f"configuration error: {error.name} is missing: pip install '.[collect]'")

_EPILOG: Final = (
    "Exit code 0: every source was read to its end, and every document of it. 1: something could "
    "not be read or written, or sources.toml has mistakes. 130: Ctrl-C."
)

Write = Callable[[list[tuple[str, Step]]], Iterable[tuple[str, Tally]]]
"""Writes a batch; see `flows.operators.collect.Writer`."""


def build(
    sources: BytewaxSource[tuple[str, Step]], write: Write, report: Sink[tuple[str, Reported]]
) -> Dataflow:
    """The collect dataflow.

    :param sources: what is read, by source
    :param write: writes documents, and the state of a source after them
    :param report: takes what has come of each source, and what could not be read
    """
    flow = Dataflow("collect")
    read = readable("read", op.input("sources", flow, sources))
    tallies = op.flat_map_batch("write_to_mongodb", read.oks, write)
    op.output("report", op.merge("all_reports", tallies, read.errs), report)
    return flow


def flow() -> Dataflow:
    """The dataflow that `bytewax.run` runs, from the environment."""
    with one_line_errors():
        settings = Settings.from_env()
    settings.configure_logging()
    with one_line_errors():
        sources = _sources(settings)
    collect_rarely()
    stopping = StopSignal()
    store = _store(settings)
    polling = PollingSource(_polled(sources, store), stopping=stopping)
    with one_line_errors():
        check_recovery("sources", polling.list_parts(), "sources.toml does")
    drain_on_signals(stopping, lambda: None, polling.close)
    report = Report(source.name for source in sources)
    return build(stopping.watch(polling), _writer(sources, store), report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read each source once; the exit code.

    :raises ConfigurationError: MongoDB is not one to write to
    """
    options = _options(arguments)
    settings = Settings.from_env()
    settings.configure_logging()
    sources = _sources(settings)
    names = {source.name for source in sources}
    if unknown := {*options.source} - names:
        raise ConfigurationError(
            f"{settings.collect_sources} names no source {', '.join(sorted(unknown))}: there are "
            f"{', '.join(sorted(names))}"
        )
    chosen = [source for source in sources if source.name in (options.source or names)]
    store = _store(settings)
    report = Report()
    polling = PollingSource(_polled(chosen, store, options.again), once=True)
    with closing(polling):
        run_main(build(polling, _writer(chosen, store), report))  # type: ignore[no-untyped-call]  # bytewax has no type here
    for source in chosen:
        say(report.line(source.name))
    return 1 if report.failed else 0


def _sources(settings: Settings) -> list[Source]:
    """The sources; each mistake of the file is a line.

    :raises SystemExit: there are mistakes
    """
    try:
        return load_sources(settings.collect_sources, secrets())
    except SourcesError as error:
        for mistake in error.mistakes:
            complain(f"configuration error: {mistake}")
        sys.exit(1)


def _store(settings: Settings) -> CollectedStore:
    client: MongoClient[Any] = MongoClient(
        settings.mongo_uri, appname="twinstream-collect", serverSelectionTimeoutMS=5000
    )
    return CollectedStore(
        client,
        settings.mongo_database,
        settings.mongo_checkpoint_database,
        tuple(DOCUMENT_TYPES),
    )


def _polled(sources: Sequence[Source], store: CollectedStore, again: bool = False) -> list[Polled]:
    return [
        Polled(
            source.name,
            source.reader,
            partial(_begin, store, source.name, source.mark, again),
            source.interval_s,
        )
        for source in sources
    ]


def _begin(store: CollectedStore, name: str, mark: str, again: bool) -> Run:
    run = store.begin(name, mark)
    return replace(run, state={}) if again else run


def _writer(sources: Sequence[Source], store: CollectedStore) -> Writer:
    return Writer(store, {one.name: Policy(one.prune, one.formerly) for one in sources})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.collect",
        description="Read the sources of sources.toml into MongoDB. `python -m bytewax.run "
        "flows.collect` keeps reading them.",
        epilog=_EPILOG,
    )
    parser.add_argument("--once", action="store_true", required=True, help="read each source once")
    parser.add_argument(
        "--again",
        action="store_true",
        help="read everything, also what the source calls unchanged; what is stored and the same "
        "is still not written",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME",
        help="read this source only; may be repeated",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command("collect", main))
