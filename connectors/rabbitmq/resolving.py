"""How a connection finds the address of its broker."""

import socket
from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter


class ResolvesInPlace(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """The input and output of a connection, which resolves names in the connection's own thread.

    pika starts a thread for each attempt. From Python 3.12 on none can be started while a process
    ends, and a flow that is told to end while its broker is away has still to connect to it.
    Nothing else is to be done in the thread of a connection that has no address yet.
    """

    def __init__(self) -> None:
        super().__init__(IOLoop())

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[..., None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve a name now, and hand over the answer, or the error, soon."""
        result: Any
        try:
            result = socket.getaddrinfo(host, port, family, socktype, proto, flags)
        except Exception as error:  # noqa: BLE001 (it is an answer)
            result = error
        return self.call_later(0, lambda: on_done(result))
