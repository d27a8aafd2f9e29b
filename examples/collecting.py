"""Collecting into a database, with the real command."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pymongo.database import Database

from examples.local_sources import Sources, write_sources
from examples.place import ExampleError
from models import DOCUMENT_TYPES
from models.shown import shown
from ops.flow_process import ROOT
from ops.guard import Guard, last_lines

_LONGEST_S: Final = 600.0


def collect_into(
    database: Database[dict[str, Any]],
    sources: Sources,
    variables: Mapping[str, str],
    folder: Path,
) -> list[tuple[str, dict[str, Any]]]:
    """Collect sources once and return what is in the database afterwards, by type.

    :param variables: the environment of the flows
    :param folder: takes `sources.toml` and the log
    :raises ExampleError: a source, or a document of one, could not be collected
    """
    file, log = folder / "sources.toml", folder / "collect.log"
    write_sources(file, sources)
    guard = Guard()
    try:
        process = guard.start(
            [sys.executable, "-m", "flows.collect", "--once"],
            folder=ROOT,
            environment={**os.environ, **variables, "COLLECT_SOURCES": str(file)},
            log=log,
        )
        code = process.wait(_LONGEST_S)
    except subprocess.TimeoutExpired as error:
        raise ExampleError(f"flows.collect did not end in {_LONGEST_S:.0f} s; see {log}") from error
    finally:
        guard.release()
    if code:
        raise ExampleError(f"flows.collect ended with status {code}: {shown(last_lines(log))}")
    return [(type_, row) for type_ in DOCUMENT_TYPES for row in database[type_].find()]
