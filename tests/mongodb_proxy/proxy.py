"""The proxy: one thread for each connection of a client."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from tests.mongodb_proxy.faults import Faults
from tests.mongodb_proxy.history import History
from tests.mongodb_proxy.lag import Lag
from tests.mongodb_proxy.wire import Ask, ConnectionCutError, Document, Message


class Behaviour(Protocol):
    """One way in which a real server is stricter."""

    def __call__(self, request: Message, ask: Ask) -> Message:
        """The reply to a request, which `ask` may be asked for.

        :raises ConnectionCutError: the connection ends without one
        """
        ...


class StricterMongoDB:
    """Forwards a port of its own to that of a server, and is stricter than it.

    Clients must use `uri`, which says that there is nobody else: otherwise they would find the
    server behind it.

    :param port: of the server
    :param behind: port of a server that holds an older state, see `Lag`
    """

    def __init__(self, port: int, behind: int | None = None) -> None:
        self.faults = Faults()
        self.history = History()
        self.lag = Lag(behind)
        self._behaviours: list[Behaviour] = [self.faults, self.history, self.lag]
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = True
        self._clients: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        """The connection string."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    @property
    def refused_by_history(self) -> list[int]:
        """Codes of what streams were refused so far."""
        return list(self.history.refused)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        self._listener.close()
        for client in list(self._clients):
            _end(client)

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream: dict[int, socket.socket] = {}

        def ask(request: Message, port: int | None = None) -> Message:
            port = port or self._port
            if port not in upstream:
                upstream[port] = socket.create_connection(("127.0.0.1", port))
            upstream[port].sendall(request.raw)
            return Message.read(upstream[port])

        with suppress(ConnectionCutError, OSError):
            while True:
                request = Message.read(client)
                if not request.answered:
                    upstream[self._port].sendall(request.raw)
                    continue
                client.sendall(self._answer(request, ask).raw)
        self._clients.discard(client)
        for one in (client, *upstream.values()):
            _end(one)

    def _answer(self, request: Message, ask: Ask) -> Message:
        answer: Ask = ask
        for behaviour in reversed(self._behaviours):
            answer = _through(behaviour, answer)
        reply = answer(request)
        if reply.body is not None and "topologyVersion" in reply.body:
            # without it a client asks again, instead of waiting for what a server says by itself
            body: Document = {k: v for k, v in reply.body.items() if k != "topologyVersion"}
            return Message.reply(request, body)
        return reply


def _through(behaviour: Behaviour, ask: Ask) -> Ask:
    def answer(request: Message, port: int | None = None) -> Message:
        if request.body is None or port is not None:
            return ask(request, port)
        return behaviour(request, ask)

    return answer


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
