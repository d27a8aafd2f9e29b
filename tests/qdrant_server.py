"""The product's embedded store, as strict as Qdrant Cloud, in place of a Qdrant server.

No package registry has the server; its engine and its gRPC services are those of
`connectors.qdrant.embedded`. Added here: strict mode, in which a filter on a field without an index
is refused, limits set by `update_collection(strict_mode_config=...)`, and TLS. Which fields were
filtered or counted by is noted in `<data>/filtered/<collection>/`.

    python -m tests.qdrant_server --data FOLDER --port PORT
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models as q

from connectors.qdrant import QdrantSettings
from connectors.qdrant.embedded.collection import Collection
from connectors.qdrant.embedded.guard import Denied, Guard
from connectors.qdrant.embedded.server import MAX_REQUEST_BYTES, Maintenance, listen, made_of
from connectors.qdrant.embedded.services import Services
from ops.local_server import HOST, LocalServer

__all__ = ["MAX_REQUEST_BYTES", "QdrantServer"]


class StrictServices(Services):
    """The services in strict mode."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "collections")
        self._filtered = folder / "filtered"
        self._strict: dict[str, Any] = {}

    def Update(self, request: Any, context: Any) -> Any:
        self._limits(request.collection_name).CopyFrom(request.strict_mode_config)
        return wire.CollectionOperationResponse(result=True)

    def Upsert(self, request: Any, context: Any) -> Any:
        strict = self._limits(request.collection_name)
        if strict.HasField("upsert_max_batchsize"):
            _within(len(request.points), strict.upsert_max_batchsize, "upsert limit")
        if strict.HasField("max_points_count"):
            there = self.named(request.collection_name).count()
            if there >= strict.max_points_count:
                limit = f"Max points count limit of {strict.max_points_count} reached!"
                raise Denied(grpc.StatusCode.INVALID_ARGUMENT, f"Bad request: {limit}")
        return super().Upsert(request, context)

    def Scroll(self, request: Any, context: Any) -> Any:
        strict = self._limits(request.collection_name)
        if strict.HasField("max_query_limit"):
            _within(request.limit, strict.max_query_limit, "limit")
        return super().Scroll(request, context)

    def Facet(self, request: Any, context: Any) -> Any:
        collection = self.named(request.collection_name)
        self._use(collection, [request.key])
        return super().Facet(request, context)

    def filter_of(self, collection: Collection, request: Any) -> q.Filter | None:
        """Refuse a filter on a field without an index; remember the others."""
        only = super().filter_of(collection, request)
        if only is not None:
            self._use(collection, _keys(only))
        return only

    def _use(self, collection: Collection, keys: Iterable[str]) -> None:
        [name] = (name for name, one in self._collections.items() if one is collection)
        indexed = collection.indexes()
        for key in keys:
            if key not in indexed:
                raise Denied(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f'Bad request: Index required but not found for "{key}" of one of '
                    "the following types: [keyword]. Help: Create an index for this key or "
                    "use a different filter.",
                )
            (self._filtered / name).mkdir(parents=True, exist_ok=True)
            (self._filtered / name / key).touch()

    def _limits(self, name: str) -> Any:
        return self._strict.setdefault(name, wire.StrictModeConfig())


def _keys(only: q.Filter) -> Iterator[str]:
    for conditions in (only.must, only.must_not, only.should):
        for one in conditions if isinstance(conditions, list) else [conditions]:
            if isinstance(one, q.FieldCondition):
                yield one.key
            elif isinstance(one, q.Filter):
                yield from _keys(one)


def _within(value: int, limit: int, name: str) -> None:
    if value > limit:
        raise Denied(
            grpc.StatusCode.INVALID_ARGUMENT,
            f'Bad request: Limit exceeded {value} > {limit} for "{name}". Help: Reduce the '
            f'"{name}" parameter to or below {limit}.',
        )


class QdrantServer(LocalServer):
    """The server as a process of its own, to be killed and restarted at will.

    :param api_key: asked for in every call
    :param certificate: PEM files of a certificate chain and its key; TLS only, then
    """

    name = "qdrant"

    def __init__(
        self, data_dir: Path, api_key: str = "", certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(data_dir)
        self._api_key = api_key
        self._certificate = certificate

    @property
    def settings(self) -> QdrantSettings:
        """Where it is."""
        scheme = "https" if self._certificate else "http"
        return QdrantSettings(url=f"{scheme}://{HOST}", grpc_port=self.port, api_key=self._api_key)

    def _launch(self) -> Any:
        root = Path(__file__).resolve().parent.parent
        command: list[str | Path] = [
            sys.executable, "-m", "tests.qdrant_server", "--data", self.data_dir / "data",
            "--port", str(self.port),
        ]  # fmt: skip
        if self._certificate:
            command += ["--certificate", *self._certificate]
        environment = {**os.environ, "PYTHONPATH": str(root), "API_KEY": self._api_key}
        return self._spawn(command, environment)

    def _serves(self) -> bool:
        return True


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.qdrant_server")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, nargs=2, help="chain and key, PEM")
    options = parser.parse_args()
    services = StrictServices(options.data)
    server = made_of(services, Guard(os.environ.get("API_KEY", "")))
    credentials = None
    if options.certificate:
        chain, key = (file.read_bytes() for file in options.certificate)
        credentials = grpc.ssl_server_credentials([(key, chain)])
    if listen(server, options.port, credentials) != options.port:
        print(f"port {options.port} is in use", file=sys.stderr)
        return 1
    maintenance = Maintenance(services)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    maintenance.end()
    server.stop(1).wait()
    services.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
