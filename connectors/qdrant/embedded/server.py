"""The server of an embedded store: `python -m connectors.qdrant.embedded --data FOLDER`.

One for each folder. It listens on loopback only, asks each call for the key in `server.json`, and
ends in good order on SIGTERM, or by itself when nobody has used the store for a while.
Exit code 0: ended in good order. 1: it broke. 2: the folder cannot be used; one line says why.
3: another server has the folder.
"""

import argparse
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from qdrant_client import grpc as wire

from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.folder import Address, StoreFolder
from connectors.qdrant.embedded.guard import Guard
from connectors.qdrant.embedded.services import Services
from models.errors import ConfigurationError, TwinstreamError

HOST: Final = "127.0.0.1"
MAX_REQUEST_BYTES: Final = 32 * 2**20
UNUSABLE, TAKEN = 2, 3
"""Exit codes."""

_FLUSH_EVERY_S: Final = 1.0
_REWRITE_AGAIN_AFTER_S: Final = 600.0
"""After a failure, which may have cost minutes of work."""
_LOOK_FOR_USERS_EVERY_S: Final = 0.5
_TAKE_S: Final = 1.0
# Below the ephemeral ports: a client that tries a dead server there can be connected to itself.
_PORTS: Final = range(15_000, 32_000)

log = logging.getLogger("qdrant")


def listen(
    server: grpc.Server, wanted: int | None, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Bind a port of loopback: the wanted one if it is free, else another. Returns it."""
    for port in [*([wanted] if wanted else []), *random.sample(_PORTS, 100)]:
        address = f"{HOST}:{port}"
        try:
            if credentials is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, credentials)
        except RuntimeError:
            continue
        if bound:
            return int(bound)
    raise OSError(f"no free port on {HOST}")


def made_of(services: Services, guard: Guard) -> grpc.Server:
    """A server of these services that has no port yet."""
    server = grpc.server(
        ThreadPoolExecutor(8),
        interceptors=[guard],
        options=[
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    add: Any  # generated, without types
    for add in (wire.add_PointsServicer_to_server, wire.add_CollectionsServicer_to_server):
        add(services, server)
    return server


class Maintenance:
    """Two threads that flush the collections, and rewrite those that are worn."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._again_and_again, args=work, daemon=True)
            for work in (
                (Collection.flush, 0.0),
                (_rewrite_worn, _REWRITE_AGAIN_AFTER_S),
            )
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Begin no more work."""
        self._ended.set()

    def _again_and_again(self, work: Callable[[Collection], None], pause_s: float) -> None:
        while not self._ended.wait(_FLUSH_EVERY_S):
            for collection in self._services.collections:
                try:
                    work(collection)
                except Exception as error:  # noqa: BLE001 (no error of this may end the store)
                    log.warning("maintenance: %s: %s", type(error).__name__, error)
                    self._ended.wait(pause_s)


def _rewrite_worn(collection: Collection) -> None:
    if collection.is_worn:
        started = time.monotonic()
        if collection.rewrite():
            log.info("a collection was rewritten in %.1f s", time.monotonic() - started)


def serve(data: Path, port: int | None, idle_s: float | None) -> int:
    """Serve a folder until SIGTERM or SIGINT, or until nobody has used it for `idle_s` seconds.

    :returns: exit code
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    folder = StoreFolder(data)
    folder.prepare()
    lock = folder.take(_TAKE_S)
    if lock is None:
        log.info("another server has %s", data)
        return TAKEN
    with lock:
        before = folder.address()
        folder.withdraw()  # nobody is misled while this one starts
        key = before.api_key if before else secrets.token_urlsafe(24)
        used_at = [time.monotonic()]
        services = Services(folder.collections)

        def called() -> None:
            used_at[0] = time.monotonic()

        server = made_of(services, Guard(key, called))
        # A client of a server that was killed comes back by itself where it finds the same again.
        bound = listen(server, port or (before.grpc_port if before else None))
        maintenance = Maintenance(services)
        server.start()
        folder.announce(Address(f"http://{HOST}:{bound}", bound, key, os.getpid()))
        log.info("serving %s on %s:%d", data, HOST, bound)
        used_at[0] = time.monotonic()
        while not stop.wait(_LOOK_FOR_USERS_EVERY_S):
            if not folder.is_still(lock):
                log.error("the folder of the store was deleted")
                return 1
            with folder.without_users() as unused:
                now = time.monotonic()
                if not unused:
                    used_at[0] = now
                elif idle_s is not None and now - used_at[0] >= idle_s:
                    log.info("nobody has used the store for %.0f s", idle_s)
                    _end(server, services, maintenance, folder)
                    return 0
        _end(server, services, maintenance, folder)
    return 0


def _end(
    server: grpc.Server, services: Services, maintenance: Maintenance, folder: StoreFolder
) -> None:
    maintenance.end()
    folder.withdraw()
    server.stop(2).wait()
    services.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; see the module."""
    parser = argparse.ArgumentParser(prog="python -m connectors.qdrant.embedded")
    parser.add_argument("--data", type=Path, required=True, help="folder of the store")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1; else the last one, or a free")
    parser.add_argument("--idle", type=float, help="seconds without a user after which it ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s | %(message)s", level=logging.INFO)
    try:
        return serve(options.data, options.port, options.idle)
    except TwinstreamError as error:
        log.error("%s", error)
        return UNUSABLE if isinstance(error, ConfigurationError) else 1
