"""A client of an embedded store."""

import logging
import threading
from typing import IO, Any, Final

from qdrant_client import QdrantClient
from qdrant_client.qdrant_remote import QdrantRemote

from connectors.qdrant.embedded.folder import Address, StoreFolder
from connectors.qdrant.embedded.launch import ensure

_LOOK_EVERY_S: Final = 0.25
_LOOK_SELDOM_S: Final = 5.0

log = logging.getLogger("connectors")


class EmbeddedClient(QdrantClient):
    """A client by gRPC that keeps its server running: one that was killed is started again.

    Calls fail meanwhile as they do with any server that is away. The server stays as long as one
    of its clients, of any process, is open.

    :param options: of `QdrantClient`, but for those that say where the server is
    :raises ConfigurationError: the folder cannot be used
    :raises StoreUnavailableError: the server does not come up
    """

    def __init__(self, folder: StoreFolder, **options: Any) -> None:
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="embedded store")
        self._use: IO[str] | None = None
        folder.prepare()
        self._folder = folder
        # Its server is on loopback, where a proxy of the environment would not find it.
        channel = {**(options.get("grpc_options") or {}), "grpc.enable_http_proxy": 0}
        options = self._options = {**options, "grpc_options": channel}
        self._use = folder.use()
        try:
            self._address = ensure(folder)
            super().__init__(**self._where(self._address), **options)
        except BaseException:
            self._use.close()
            raise
        self._keeper.start()

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Close the connection; the server ends when nobody else uses it."""
        self._ended.set()
        # It may be waiting for a server that does not come up, or be the last that holds this.
        if self._keeper.is_alive() and self._keeper is not threading.current_thread():
            self._keeper.join(1)
        super().close(grpc_grace, **kwargs)
        if self._use is not None:
            self._use.close()

    def _keep(self) -> None:
        said, wait_s = "", _LOOK_EVERY_S
        while not self._ended.wait(wait_s):
            try:
                self._look()
                wait_s = _LOOK_EVERY_S
            except Exception as error:  # noqa: BLE001 (the store must not stay down for any of them)
                if str(error) != said:
                    log.warning("the embedded store is not started again: %s", error)
                said, wait_s = str(error), min(_LOOK_SELDOM_S, 2 * wait_s)

    def _look(self) -> None:
        if self._folder.is_served() and self._folder.address() in (self._address, None):
            return
        address = ensure(self._folder)
        if self._place(address) != self._place(self._address):
            # The former client is not closed: other threads may be in its calls.
            self._client = QdrantRemote(**self._where(address), **self._options)
        self._address = address

    @staticmethod
    def _place(address: Address) -> tuple[int, str]:
        return address.grpc_port, address.api_key

    @staticmethod
    def _where(address: Address) -> dict[str, Any]:
        return {"url": address.url, "grpc_port": address.grpc_port, "api_key": address.api_key}
