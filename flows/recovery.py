"""Bytewax's recovery directory, which the flows do not need and must not trip over."""

import sqlite3
import sys
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from models.errors import ConfigurationError


def check_recovery(
    source: str,
    partitions: Collection[str],
    named_by: str = "RABBITMQ_QUEUE_NAME and RABBITMQ_PARTITIONS do",
) -> None:
    """Refuse a recovery directory that Bytewax would panic on.

    :param source: name of the step whose partitions may have changed
    :param partitions: those that it has now
    :param named_by: what names them, and a verb
    :raises ConfigurationError: there is no recovery store at that place, or it remembers a
        partition that is gone
    """
    # bytewax.run has read its arguments and variables when it calls for the flow.
    directory: Path | None = getattr(sys.modules["__main__"], "recovery_directory", None)
    if directory is None:
        return
    files = sorted(directory.glob("part-*.sqlite3"))
    if not files:
        raise ConfigurationError(
            f"the recovery directory {directory} is not one: make it with `mkdir -p {directory} && "
            f"python -m bytewax.recovery {directory} 1`, or run without -r, as the flows can"
        )
    gone = sorted({key for file in files for key in _remembered(file, source)} - {*partitions})
    if gone:
        raise ConfigurationError(
            f"the recovery directory {directory} remembers {', '.join(gone)}, which "
            f"{named_by} not name any more: delete its files "
            f"and make it again with `python -m bytewax.recovery {directory} {len(files)}`; the "
            "flows keep nothing in it"
        )


def _remembered(file: Path, source: str) -> list[str]:
    """Partitions of a source in one file of a recovery store; none where it cannot be read."""
    query = "SELECT DISTINCT state_key FROM snaps WHERE step_id LIKE ?"
    with (
        suppress(sqlite3.Error),  # Bytewax itself is about to say what is wrong with it
        closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as store,
    ):
        return [key for (key,) in store.execute(query, (f"%.{source}",))]
    return []
