"""The local stack in the foreground: `make dev`.

1. start MongoDB, RabbitMQ and the embedded store, where the settings name servers of this machine,
   and both flows
2. show what the flows log, until a signal, or until one of them ends
3. let the flows finish what is in flight, then stop the servers

Nothing stays behind: not when the terminal is closed, and not when this program is killed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pymongo.uri_parser import parse_uri

from connectors.qdrant.embedded import StoreFolder, stop_unless_used
from flows.logs import escape_unencodable
from flows.settings import Settings
from models.errors import ConfigurationError
from models.shown import shown
from ops.flow_process import ROOT, FlowEndedError, FlowProcesses
from ops.interrupt import Interrupted, interrupt_on_signals
from ops.local_server import HOST, LocalServer, StackError
from ops.mongo_server import MongoServer
from ops.qdrant_store import QdrantStoreServer
from ops.rabbitmq_node import RabbitMQNode

FLOWS: Final = {"cdc": "flows.cdc", "features": "flows.features"}
_THIS_MACHINE: Final = (HOST, "localhost")
_LOOK_EVERY_S: Final = 0.1


def main(arguments: Sequence[str] | None = None, flows: Mapping[str, str] = FLOWS) -> int:
    """Run the stack until a signal; 0 if both flows then ended in good order, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.dev",
        description="Run MongoDB, RabbitMQ and both flows in the foreground, until Ctrl-C.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / ".data",
        help="folder for the data of the servers and for the logs (default: .data)",
    )
    data: Path = parser.parse_args(arguments).data
    escape_unencodable()
    screen = _Screen()
    interrupt_on_signals()
    try:
        return _run(screen, Settings.from_env(), data, flows)
    except Interrupted:  # before the flows were there
        return 0
    except (ConfigurationError, StackError) as error:
        screen.line("dev", error)
        return 1


def _run(screen: _Screen, settings: Settings, data: Path, modules: Mapping[str, str]) -> int:
    with ExitStack() as stack:
        servers = list(_servers(settings, data))
        for server in servers:
            screen.line(server.name, "starting")
            stack.enter_context(server)
            screen.line(server.name, f"up on {HOST}:{server.port}, data in {server.data_dir}")
        folder = data / "dev"
        folder.mkdir(parents=True, exist_ok=True)
        for name in modules:
            (folder / f"{name}.log").unlink(missing_ok=True)
        flows = stack.enter_context(FlowProcesses(modules, {}, folder))
        logs = {name: _Tail(flows.log(name)) for name in modules}
        try:
            _watch(screen, servers, flows, logs)
        except Interrupted:
            screen.line("dev", "ending: the flows finish what is in flight")
            problem = ""
        except (FlowEndedError, StackError) as error:
            problem = str(error)
        codes = flows.stop()
        _show(screen, logs)
        failed = [f"flows.{name} ended with status {code}" for name, code in codes.items() if code]
        for line in filter(None, [problem, *failed]):
            screen.line("dev", line)
        return 1 if problem or failed else 0


def _servers(settings: Settings, data: Path) -> Iterator[LocalServer]:
    """The servers that the settings expect on this machine; others are somebody else's."""
    if settings.mongo_uri.startswith("mongodb://"):
        uri = parse_uri(settings.mongo_uri)
        [*others, (host, port)] = uri["nodelist"]
        if host in _THIS_MACHINE and not others and not uri["username"]:
            yield MongoServer(data / "mongodb", port)
    broker = settings.rabbitmq
    if broker.host in _THIS_MACHINE and broker.username == "guest" and not broker.tls:
        yield RabbitMQNode(data / "rabbitmq", broker.port)
    if not settings.qdrant.url:
        store = StoreFolder(settings.qdrant.path)
        stop_unless_used(store)  # a search may have started it a moment ago
        if not store.is_served():
            yield QdrantStoreServer(settings.qdrant.path)


def _watch(
    screen: _Screen,
    servers: Sequence[LocalServer],
    flows: FlowProcesses,
    logs: Mapping[str, _Tail],
) -> None:
    """Show logs for ever.

    :raises FlowEndedError: a flow has ended
    :raises StackError: a server has ended
    """
    while True:
        _show(screen, logs)
        flows.check()
        for server in servers:
            if not server.running:
                raise StackError(f"{server.name} ended by itself; {server.last_words()}")
        time.sleep(_LOOK_EVERY_S)


def _show(screen: _Screen, logs: Mapping[str, _Tail]) -> None:
    for name, log in logs.items():
        for line in log.lines():
            screen.line(name, line)


class _Tail:
    """The lines that are added to a log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0

    def lines(self) -> list[str]:
        """The lines that were completed since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            added = log.read()
        added = added[: added.rfind(b"\n") + 1]
        self._read += len(added)
        return added.decode(errors="replace").splitlines()


class _Screen:
    """Lines with the name of their process before them, as long as there is somebody to read."""

    def __init__(self) -> None:
        self._closed = False

    def line(self, name: str, text: object) -> None:
        """Print a line; the end of this program is not the place to fail for want of a terminal."""
        if self._closed:
            return
        try:
            print(f"{name:<8} | {shown(text)}", flush=True)
        except OSError:
            self._closed = True
            sys.stdout = None  # its last flush would fail, too


if __name__ == "__main__":
    sys.exit(main())
