"""Connections to the very address that was checked, with one deadline for all that they do."""

import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

import httpcore
from typing_extensions import override

from connectors.collect.addresses import Resolve, allowed_addresses


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name, checks its addresses, and connects to one of these: nobody asks for the name
    a second time, so no second answer can lead elsewhere. TLS still checks the name.

    :param resolve: asks for the addresses of a name
    :param private: allow those of private networks
    :param deadline: time of the monotonic clock when everything ends, however slowly it trickles
    """

    def __init__(self, resolve: Resolve, private: bool, deadline: float) -> None:
        self._resolve = resolve
        self._private = private
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect.

        :raises ForbiddenAddressError: the host has an address that is not public
        :raises httpcore.ConnectError: nobody answers
        """
        try:
            addresses = allowed_addresses(host, port, self._resolve, self._private)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address of {host}: {error}") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._connect(address, port, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._deadline)
        raise failure

    def _connect(self, address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        return self._network.connect_tcp(address, port, _left(self._deadline, timeout))


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    @override
    def close(self) -> None:
        self._stream.close()

    @override
    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("it took longer than it may in all")
    return left if timeout is None else min(left, timeout)
