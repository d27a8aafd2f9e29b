"""Access to Qdrant: where it is, and a client of it."""

import gc
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings, simplefilter

from qdrant_client import QdrantClient

from connectors.patience import Patience
from connectors.qdrant.answers import explain, is_away
from connectors.qdrant.names import Collections
from models.errors import ConfigurationError

# gRPC would wait up to two minutes before it tries a server that was away again, and would wait
# for ever for an answer from one that vanished without a word.
_CHANNEL: Final = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
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

    :raises ConfigurationError: the embedded store is in use by another process, or has no folder
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
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"QDRANT_PATH {settings.path} cannot be used: {error}: set another folder"
            ) from error


def open_patiently(settings: QdrantSettings) -> QdrantClient:
    """The same for a flow, which waits for a disk that is full, broken or locked."""
    tries = count()

    def away(error: BaseException) -> bool:
        return not settings.url and is_away(error)

    def open_() -> QdrantClient:
        if next(tries):
            gc.collect()  # a try that failed has left files open, in a circle of objects
        return open_client(settings)

    return Patience("Qdrant", away, explain=explain).call(open_)


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
