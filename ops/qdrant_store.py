"""The server of an embedded store, run on purpose and not by whoever needs it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from connectors.qdrant.embedded import StoreFolder
from ops.flow_process import ROOT
from ops.local_server import LocalServer


class QdrantStoreServer(LocalServer):
    """Qdrant's engine behind its gRPC services; its folder is what `QDRANT_PATH` names.

    :raises ConfigurationError: the folder is of another version, or of something else
    """

    name: ClassVar[str] = "qdrant"

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        StoreFolder(data_dir).prepare()
        super().__init__(data_dir, port)

    def _launch(self) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [sys.executable, "-m", "connectors.qdrant.embedded"]
        command += ["--data", self.data_dir, "--port", str(self.port)]
        return self._spawn(command, {**os.environ, "PYTHONPATH": str(ROOT)})

    def _serves(self) -> bool:
        address = StoreFolder(self.data_dir).address()
        return address is not None and address.grpc_port == self.port
