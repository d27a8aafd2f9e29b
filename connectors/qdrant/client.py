"""Access to Qdrant: where it is, a client of it, and what its errors mean."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings, simplefilter

import grpc
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from connectors.qdrant.names import Collections
from models.errors import ConfigurationError, ContentRefusedError, PointsGoneError, TwinstreamError

STORE_ERRORS: Final = (ApiException, grpc.RpcError, QdrantException)
"""What a call to a server can raise."""

# gRPC would wait up to two minutes before it tries a server that was away again, and would wait
# for ever for an answer from one that vanished without a word.
_CHANNEL: Final = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
}
_NO_SUCH_POINT: Final = "No point with id"
_LIMIT_OF_A_PAGE: Final = 'for "limit"'
_REFUSED_STATUS: Final = {400, 409, 413, 422}
_REFUSED_GRPC: Final = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
}


@dataclass(frozen=True, slots=True)
class QdrantSettings:
    """A Qdrant server at `url`, or else the embedded store in the folder `path`."""

    url: str = ""
    path: Path = Path(".data/qdrant")
    api_key: str = field(default="", repr=False)
    grpc_port: int = 6334
    ca_file: str = ""
    """Certificates to check an https server with; empty: those of gRPC."""
    prefix: str = ""
    """Begins the name of every collection."""

    @property
    def collections(self) -> Collections:
        """The names of the collections."""
        return Collections(self.prefix)


def open_client(settings: QdrantSettings) -> QdrantClient:
    """A client for reading and writing.

    :raises ConfigurationError: the embedded store is in use by another process
    """
    if settings.url:
        return open_server(settings, timeout=60)
    with catch_warnings():
        simplefilter("ignore")
        try:
            settings.path.mkdir(parents=True, exist_ok=True)
            return QdrantClient(path=str(settings.path), force_disable_check_same_thread=True)
        except RuntimeError as error:
            raise ConfigurationError(
                f"QDRANT_PATH {settings.path} is in use by another process: stop it, or set "
                "QDRANT_URL to share a server"
            ) from error


def open_server(settings: QdrantSettings, timeout: int) -> QdrantClient:
    """A client of the server, by gRPC; nothing is sent before the first call.

    :param timeout: seconds that one call may take
    """
    options: dict[str, Any] = dict(_CHANNEL)
    if settings.ca_file:
        options["root_certificates"] = Path(settings.ca_file).read_bytes()
    with catch_warnings():
        simplefilter("ignore")  # of a key over plain http, which is the operator's decision
        return QdrantClient(
            url=settings.url,
            grpc_port=settings.grpc_port,
            grpc_options=options,
            api_key=settings.api_key or None,
            prefer_grpc=True,
            check_compatibility=False,
            timeout=timeout,
        )


def is_away(error: BaseException) -> bool:
    """Everything but a refusal of the content: a wrong key or a missing collection must cost no
    document its place.
    """
    if isinstance(error, UnexpectedResponse):
        return error.status_code not in _REFUSED_STATUS and not _is_gone(error)
    if isinstance(error, grpc.RpcError):
        return not (_code(error) in _REFUSED_GRPC or _is_gone(error) or _is_too_large(error))
    return isinstance(
        error, ResponseHandlingException | QdrantException | ConnectionError | TimeoutError
    )


def is_too_much(error: BaseException) -> bool:
    """Whether a request may succeed if it asks for less: the answer takes too long, is larger than
    what the way to the server carries, or has more points than the server's strict mode allows.
    """
    if not isinstance(error, grpc.RpcError):
        return _LIMIT_OF_A_PAGE in str(error)
    late = _code(error) == grpc.StatusCode.DEADLINE_EXCEEDED
    return late or _is_too_large(error) or _LIMIT_OF_A_PAGE in one_line(error)


def translated(error: Exception) -> TwinstreamError:
    """What an error of the server that is no absence says, as one of ours."""
    kind = PointsGoneError if _is_gone(error) else ContentRefusedError
    return kind(one_line(error))


def one_line(error: BaseException) -> str:
    """The reason that an error gives, on one line."""
    details = getattr(error, "details", None)
    text = details() if isinstance(error, grpc.RpcError) and callable(details) else str(error)
    return " ".join(str(text).split())[:300] or type(error).__name__


def _code(error: grpc.RpcError) -> Any:
    return getattr(error, "code", lambda: None)()


def _is_too_large(error: grpc.RpcError) -> bool:
    # what a proxy of gRPC's own library says; with the same code a server asks for patience
    exhausted = _code(error) == grpc.StatusCode.RESOURCE_EXHAUSTED
    return exhausted and "larger than max" in str(error)


def _is_gone(error: BaseException) -> bool:
    return _NO_SUCH_POINT in str(error)
