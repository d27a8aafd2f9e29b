"""Access to Qdrant: where it is, and a client of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from warnings import catch_warnings, simplefilter

from qdrant_client import QdrantClient

from connectors.patience import Patience
from connectors.qdrant.embedded import EmbeddedClient, StoreFolder
from connectors.qdrant.names import Collections
from models.errors import StoreUnavailableError

READER_TIMEOUT_S: Final = 10
"""How long a call of a reading command may take."""

# gRPC would wait up to two minutes before it tries a server that was away again, twenty seconds for
# one that takes connections and says nothing, and for ever for an answer from one that vanished.
_CHANNEL: Final = {
    "grpc.min_reconnect_backoff_ms": 5000,  # the time for one attempt to connect
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


def open_client(settings: QdrantSettings, timeout: int = 60) -> QdrantClient:
    """A client for reading and writing, by gRPC.

    A server is not contacted before the first call. That of the embedded store is started if
    nobody has done so, and stays as long as a client of it is open.

    :param timeout: seconds that one call may take
    :raises ConfigurationError: the folder of the embedded store cannot be used
    :raises StoreUnavailableError: the embedded store does not start
    """
    options: dict[str, Any] = {
        "prefer_grpc": True, "check_compatibility": False, "timeout": timeout,
        "grpc_options": dict(_CHANNEL),
    }  # fmt: skip
    with catch_warnings():
        simplefilter("ignore")  # of a key over plain http, which is the operator's decision
        if not settings.url:
            return EmbeddedClient(StoreFolder(settings.path), **options)
        if settings.ca_file:
            options["grpc_options"]["root_certificates"] = Path(settings.ca_file).read_bytes()
        return QdrantClient(
            url=settings.url,
            grpc_port=settings.grpc_port,
            api_key=settings.api_key or None,
            **options,
        )


def open_patiently(settings: QdrantSettings) -> QdrantClient:
    """The same for a flow, which waits for an embedded store that does not start."""

    def away(error: BaseException) -> bool:
        return isinstance(error, StoreUnavailableError)

    return Patience("Qdrant", away).call(lambda: open_client(settings))


@contextmanager
def open_reader(settings: QdrantSettings) -> Iterator[QdrantClient]:
    """Yield a client for a command that reads, and close it.

    :raises ConfigurationError: the folder of the embedded store cannot be used
    :raises StoreUnavailableError: nothing has been stored yet, or the embedded store does not start
    """
    if not settings.url and not settings.path.is_dir():
        raise StoreUnavailableError(f"nothing stored yet: there is no folder {settings.path}")
    with closing(open_client(settings, READER_TIMEOUT_S)) as client:
        yield client
