"""Compares MongoDB with the store, and repairs: `python -m flows.reconcile`, beside live flows or
not.

1. read the cluster time, then everything on both sides, and judge (`flows.reconciliation`)
2. publish a repair for each document that differs, with that time as its version, so that it loses
   against every change made since; a document that was only on its way costs nothing
3. give chunks that have no sparse vector theirs: those of an earlier version's store
4. look again until none of what was found differs any more

Exit code 0 if nothing was wrong, if everything is repaired, if repairs wait in the queue for a
features flow, or if only a report was wanted; 1 if something could not be read or repaired; 130
after Ctrl-C.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from connectors.qdrant import (
    STORE_ERRORS,
    Collections,
    QdrantStore,
    one_line,
    open_client,
    open_reader,
    read_places,
)
from connectors.rabbitmq import RabbitMQConnection, RabbitMQPublisher, queue_names, topology
from flows.command import run_command
from flows.comparison import Comparison
from flows.embedding.embedder import ChunkingEmbedder
from flows.logs import say
from flows.places import EmbedderOf, embedders, setting_of
from flows.reconciliation import NAMELESS, Report
from flows.settings import Settings
from models import DOCUMENT_TYPES, Message
from models.errors import (
    ConfigurationError,
    PlaceGoneError,
    StoreTooOldError,
    StoreUnavailableError,
)
from models.places import Places

VERIFY_S: Final = 60.0
"""How long repairs are waited for."""

_SHOWN: Final = 20
_NOTICED_S: Final = 2.0
"""After this a flow has noticed that chunks can have sparse vectors."""


def main(
    arguments: Sequence[str] | None = None,
    embedder: ChunkingEmbedder | None = None,
    embedder_of: EmbedderOf | None = None,
) -> int:
    """Reconcile each place of the store that is filled; of a store that is not migrated, there is
    one. The exit code.

    :param embedder: instead of the model that the settings name
    :param embedder_of: instead of the models that a migration names
    :raises ConfigurationError: a system cannot be reached, or nothing has been stored yet
    """
    try:
        return _reconcile_all(_options(arguments), embedder, embedder_of)
    except PlaceGoneError as error:
        raise ConfigurationError(
            "a model was removed from the store meanwhile: run it again"
        ) from error


def _reconcile_all(
    options: argparse.Namespace,
    embedder: ChunkingEmbedder | None,
    embedder_of: EmbedderOf | None,
) -> int:
    settings = Settings.from_env()
    settings.configure_logging()
    types = options.type or tuple(DOCUMENT_TYPES)
    places = _places(settings)
    if places is None:
        return _reconcile(settings, options, Comparison(settings, types, embedder))
    models = embedder_of or embedders(settings)
    codes = []
    for place in places.written:
        if place.state == "filling":  # python -m flows.migrate start sees to it
            continue
        say(f"{place.model}:")
        model = models(setting_of(place, settings))
        codes.append(_reconcile(settings, options, Comparison(settings, types, model, place.id)))
    return max(codes, default=0)


def _places(settings: Settings) -> Places | None:
    """The places of the store, where it was migrated.

    :raises ConfigurationError: Qdrant does not tell: a store is not to be compared by another place
    """
    try:
        with open_reader(settings.qdrant) as client:
            return read_places(client, settings.qdrant.collections)
    except StoreUnavailableError:  # what follows tells why
        return None
    except STORE_ERRORS as error:
        raise ConfigurationError(f"Qdrant cannot be read: {one_line(error)}") from error


def _reconcile(settings: Settings, options: argparse.Namespace, comparison: Comparison) -> int:
    types = options.type or tuple(DOCUMENT_TYPES)
    with closing(comparison):
        if options.report_only or not settings.reconcile_repair:
            report = comparison.look(_ignore)
            _say(report)
            if report.findings:
                say("nothing was repaired, since only a report was wanted")
            return 0
        report = compare_and_repair(settings, comparison)
        _mend_store(settings, types, comparison.names)
        return 0 if _repaired(settings, comparison, report) else 1


def _repaired(settings: Settings, comparison: Comparison, report: Report) -> bool:
    """Whether all that was found is repaired, or waits to be."""
    if report.kinds[NAMELESS]:
        say(f"{NAMELESS} belong to no document: delete them by hand")
        return False
    if not report.findings:
        return True
    if not _is_consumed(settings):
        count = len(report.findings)
        say(f"{count} repairs wait in the queue: they are applied once features runs")
        return True
    return is_repaired(comparison, report)


def compare_and_repair(settings: Settings, comparison: Comparison) -> Report:
    """Say what differs, and return when the broker has confirmed a repair for all of it."""
    publisher = RabbitMQPublisher(settings.rabbitmq, topology(settings.queue, settings.partitions))

    def submit(repairs: list[Message]) -> None:
        publisher.start()
        publisher.submit(repairs)

    with closing(publisher):
        report = comparison.look(submit)
        _say(report)
        publisher.flush()
    return report


def is_repaired(comparison: Comparison, report: Report) -> bool:
    """Look again until nothing of what was found is wrong any more."""
    found = {finding.key for finding in report.findings}
    deadline = time.monotonic() + VERIFY_S
    while True:
        time.sleep(1.0)
        found = comparison.still_wrong(found)
        if not found:
            say("everything is repaired")
            return True
        if time.monotonic() > deadline:
            say(f"{len(found)} documents still differ after {VERIFY_S:.0f} s")
            return False


def _is_consumed(settings: Settings) -> bool:
    """Whether features flows read all queues."""
    with RabbitMQConnection(settings=settings.rabbitmq) as connection:
        channel = connection.get_channel()
        return all(
            channel.queue_declare(queue, passive=True).method.consumer_count
            for queue in queue_names(settings.queue, settings.partitions)
        )


def _mend_store(settings: Settings, types: Sequence[str], names: Collections) -> None:
    """Forget old tombstones, and add sparse vectors."""
    with closing(open_client(settings.qdrant)) as client:
        store = QdrantStore(client, DOCUMENT_TYPES, names)
        before = time.time() - settings.tombstone_retention_days * 86400
        if pruned := store.prune_tombstones(before):
            say(f"{pruned} tombstones pruned")
        try:
            while added := sum(store.add_sparse(types).values()):
                say(f"{added} chunks have got sparse vectors")
                time.sleep(_NOTICED_S)
        except StoreTooOldError as error:
            say(str(error))
        except STORE_ERRORS as error:
            raise ConfigurationError(
                f"Qdrant: no sparse vectors added: {one_line(error)}"
            ) from error


def _ignore(_repairs: list[Message]) -> None:
    """Takes the repairs where none is wanted."""


def _say(report: Report) -> None:
    for finding in report.findings[:_SHOWN]:
        say(f"{finding.kind}: {finding.key.type} {finding.key.entry_id}")
    if len(report.findings) > _SHOWN:
        say(f"… and {len(report.findings) - _SHOWN} more")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    say(f"reconcile: {kinds or 'nothing is wrong'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.reconcile",
        description="Compare MongoDB with Qdrant, and repair what differs.",
        epilog="Exit code 0: nothing is wrong, or it is repaired, or repairs wait in the queue for "
        "a features flow. 1: something could not be read or repaired. 130: Ctrl-C.",
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="repair nothing, like RECONCILE_REPAIR=false; exit code 0 whatever is found",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        choices=list(DOCUMENT_TYPES),
        help="compare documents of this type only; may be repeated",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command("reconcile", main))
