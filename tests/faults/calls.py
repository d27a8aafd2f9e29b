"""Every call that product code makes to a driver: recorded by call site, and failing on demand.

All methods of the drivers' classes are wrapped, so a new call is a new site without an edit here.
A call counts when the frame that makes it belongs to product code; what a driver calls by itself
does not. A site is a line of the code and, for the store, the step of a write that came to it.
"""

import functools
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
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
CONTROL = "TWINSTREAM_TEST_CALLS"
"""Names the file that says which calls fail and where calls are recorded; see `arm`."""

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
CONNECTING = (pika.SelectConnection, blocking.BlockingConnection)
"""Classes whose constructor connects."""
_OF_PYTHON = {
    *("__getitem__", "__getattr__", "__iter__", "__del__", "__enter__", "__exit__", "__str__"),
    *("__repr__", "__hash__", "__eq__", "__ne__", "__bool__", "__call__", "close"),
}
NOT_A_REQUEST: dict[str, set[str]] = {
    "pymongo": {
        *("get_database", "get_collection", "with_options", "sort", "batch_size", "min", "hint"),
        *("find", "limit", "start_session", "end_session"),
        *("advance_operation_time", "advance_cluster_time"),
    },
    "pika": {
        *("add_on_close_callback", "add_on_return_callback", "add_on_cancel_callback"),
        *("add_on_connection_blocked_callback", "add_on_connection_unblocked_callback"),
        *("is_open", "is_closed", "is_closing"),
    },
    "qdrant": set(),
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


def arm(control: Path, faults: Sequence[Fault], record: Path) -> None:
    """Have the processes that read `control` begin to count anew, and meet these faults."""
    new = control.with_suffix(".new")
    new.write_text(json.dumps({"faults": faults, "record": str(record)}))
    new.replace(control)


class Calls:
    """What this process has called since it was armed, and the faults that it is to meet."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._read = (0, 0)
        self._faults: dict[str, Fault] = {}
        self._record = control
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._known: dict[tuple[str, CodeType], str | None] = {}

    def due(self, site: str) -> str | None:
        """Count a call; the kind of fault that it is to meet."""
        with self._lock:
            self._look()
            self._counts[site] += 1
            count = self._counts[site]
            if not self._faults:
                if count < 8 or count % 8 == 0:
                    self._write({"counts": {site: count}})
                return None
            if count == 1:  # it may be one that is called after a fault only
                self._write({"counts": {site: 1}})
            fault = self._faults.get(site)
            if fault is None or not fault.first <= count < fault.first + fault.times:
                return None
            self._write({"met": site})
        return fault.kind

    def _look(self) -> None:
        status = self._control.stat()
        if (status.st_ino, status.st_mtime_ns) == self._read:
            return
        self._read = (status.st_ino, status.st_mtime_ns)
        told = json.loads(self._control.read_text())
        self._faults = {fault[0]: Fault(*fault) for fault in told["faults"]}
        self._record = Path(told["record"])
        self._counts.clear()

    def _write(self, line: dict[str, Any]) -> None:
        with self._record.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def site(self, frame: FrameType, driver: str, method: str) -> str | None:
        """The name of a call site; None outside of product code."""
        code = frame.f_code
        where = self._place(code)
        if where is None:
            return None
        # One function of the store makes the requests of all steps of a write.
        step = self._entry(frame) if driver == "qdrant" else code
        suffix = "" if step is code else f" for {self._place(step)}"
        return f"{driver} {method} {where}:{frame.f_lineno}{suffix}"

    def _place(self, code: CodeType) -> str | None:
        key = code.co_filename, code  # code of two files may be equal
        if key not in self._known:
            file = Path(code.co_filename)
            inside = file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in PRODUCT
            name = getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
            self._known[key] = f"{file.relative_to(ROOT)}:{name}" if inside else None
        return self._known[key]

    def _entry(self, frame: FrameType) -> CodeType:
        """How the package that makes a call was entered."""
        package, _, _ = frame.f_code.co_filename.rpartition("/")
        entry, outer = frame.f_code, frame.f_back
        while outer is not None:
            if outer.f_code.co_filename.rpartition("/")[0] == package:
                entry = outer.f_code
            outer = outer.f_back
        return entry


Answer = Callable[[str, Callable[..., Any], Any, str, tuple[Any, ...], dict[str, Any]], Any]
"""Carries a fault out: kind, original method, its object, its name, its arguments."""


def install(answers: dict[str, Answer]) -> None:
    """Wrap the drivers of this process, as its environment says; nothing where it does not."""
    if CONTROL not in os.environ:
        return
    calls = Calls(Path(os.environ[CONTROL]))
    for driver, classes in DRIVERS.items():
        for class_ in classes:
            for name in list(methods(driver, class_)):
                _wrap(calls, driver, class_, name, answers[driver])


def methods(driver: str, class_: type) -> Iterator[str]:
    """The methods of a class of a driver that send something."""
    quiet = _OF_PYTHON | NOT_A_REQUEST[driver]
    if class_ not in CONNECTING:
        quiet = quiet | {"__init__"}
    for name, value in vars(class_).items():
        if isinstance(value, FunctionType) and name not in quiet:
            yield name


def _wrap(calls: Calls, driver: str, class_: type, name: str, answer: Answer) -> None:
    original = vars(class_)[name]

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        site = calls.site(sys._getframe(1), driver, f"{class_.__name__}.{name}")
        kind = None if site is None else calls.due(site)
        if kind is None:
            return original(self, *args, **kwargs)
        return answer(kind, original, self, name, args, kwargs)

    setattr(class_, name, call)


def recorded(file: Path) -> tuple[Counter[str], Counter[str]]:
    """How often each site was called, and how often it met its fault."""
    counts: Counter[str] = Counter()
    met: Counter[str] = Counter()
    if file.exists():
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            counts |= Counter(entry.get("counts", {}))
            met.update([entry["met"]] if "met" in entry else ())
    return counts, met
