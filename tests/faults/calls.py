"""Every call that product code makes to a driver: recorded by call site, and failing on demand.

All methods of the drivers' classes are wrapped, so a new call is a new site without an edit here.
A call counts when the frame that makes it belongs to product code; what a driver calls by itself
does not.
"""

import functools
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pika
import pika.adapters.blocking_connection as blocking
import pika.channel
import pika.connection
import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.synchronous import change_stream, client_session, command_cursor, cursor
from qdrant_client import QdrantClient

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("flows", "connectors", "retrieval")
FAULT = "TWINSTREAM_TEST_FAULT"
RECORD = "TWINSTREAM_TEST_CALLS"

DRIVERS: dict[str, tuple[type, ...]] = {
    "pymongo": (
        pymongo.MongoClient,
        Database,
        Collection,
        cursor.Cursor,
        command_cursor.CommandCursor,
        change_stream.ChangeStream,
        change_stream.DatabaseChangeStream,
        client_session.ClientSession,
    ),
    "pika": (
        pika.SelectConnection,
        pika.connection.Connection,
        pika.channel.Channel,
        blocking.BlockingConnection,
        blocking.BlockingChannel,
    ),
    "qdrant": (QdrantClient,),
}
NOT_A_REQUEST = {
    *("get_database", "get_collection", "with_options", "sort", "batch_size", "min", "hint"),
    *("find", "limit", "__getitem__", "__getattr__", "__iter__", "__del__", "__enter__"),
    *("__exit__", "__str__", "__repr__", "__hash__", "__eq__", "__ne__", "__bool__", "__call__"),
    *("add_on_close_callback", "add_on_return_callback", "add_on_cancel_callback", "close"),
    *("add_on_connection_blocked_callback", "add_on_connection_unblocked_callback"),
    *("advance_operation_time", "advance_cluster_time", "end_session", "start_session"),
    *("is_open", "is_closed", "is_closing"),
}
"""Methods that send nothing by themselves, or that end a connection."""


class Fault(NamedTuple):
    """One way in which one site fails."""

    site: str
    kind: str
    first: int = 1
    """The call of the site that fails, counted from 1."""
    times: int = 1
    """How many calls in a row."""


class Calls:
    """What this process has called, and the one fault that it is to meet."""

    def __init__(self, fault: Fault | None, record: Path | None) -> None:
        self._fault = fault
        self._record = record
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._known: dict[CodeType, str | None] = {}

    def due(self, site: str) -> str | None:
        """Count a call; the kind of fault that it is to meet."""
        with self._lock:
            self._counts[site] += 1
            count = self._counts[site]
            fault = self._fault
            meets = (
                fault is not None
                and fault.site == site
                and fault.first <= count < fault.first + fault.times
            )
            if self._record is not None and (meets or count < 4 or count % 16 == 0):
                self._write(meets)
        return fault.kind if fault is not None and meets else None

    def _write(self, met: bool) -> None:
        assert self._record is not None
        line = json.dumps({"counts": dict(self._counts), "met": met})
        with self._record.open("a") as file:
            file.write(line + "\n")

    def site(self, code: CodeType, driver: str, method: str) -> str | None:
        """The name of a call site; None outside of product code."""
        if code not in self._known:
            file = Path(code.co_filename)
            inside = file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in PRODUCT
            name = getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
            self._known[code] = f"{file.relative_to(ROOT)}:{name}" if inside else None
        where = self._known[code]
        return None if where is None else f"{driver} {method} {where}"


Answer = Callable[[str, Callable[..., Any], Any, str, tuple[Any, ...], dict[str, Any]], Any]
"""Carries a fault out: kind, original method, its object, its name, its arguments."""


def install(answers: dict[str, Answer]) -> None:
    """Wrap the drivers of this process, as its environment says."""
    spec = os.environ.get(FAULT)
    record = os.environ.get(RECORD)
    fault = Fault(*json.loads(spec)) if spec else None
    calls = Calls(fault, Path(record) if record else None)
    for driver, classes in DRIVERS.items():
        for class_ in classes:
            for name in list(_methods(class_)):
                _wrap(calls, driver, class_, name, answers[driver])


def _methods(class_: type) -> Iterator[str]:
    for name, value in vars(class_).items():
        if isinstance(value, FunctionType) and name not in NOT_A_REQUEST:
            yield name


def _wrap(calls: Calls, driver: str, class_: type, name: str, answer: Answer) -> None:
    original = vars(class_)[name]
    if name == "__init__" and class_ is not pika.SelectConnection:
        return

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        site = calls.site(sys._getframe(1).f_code, driver, f"{class_.__name__}.{name}")
        kind = None if site is None else calls.due(site)
        if kind is None:
            return original(self, *args, **kwargs)
        return answer(kind, original, self, name, args, kwargs)

    setattr(class_, name, call)


def recorded(file: Path) -> tuple[Counter[str], int]:
    """How often each site was called, and how many calls met the fault."""
    counts: Counter[str] = Counter()
    met = 0
    if file.exists():
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            met += entry["met"]
            counts |= Counter(entry["counts"])
    return counts, met
