"""A private MongoDB-compatible server: SecantusDB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pymongo
from pymongo.errors import PyMongoError

from ops.local_server import HOST, LocalServer


class MongoServer(LocalServer):
    """A MongoDB-compatible server (SecantusDB), one replica set member; writes survive a kill.

    `extra_args` go to its command line, `options` (`tls=true&…`) to its URI.
    """

    name: ClassVar[str] = "mongodb"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        options: str = "",
    ) -> None:
        super().__init__(data_dir, port)
        self.extra_args = tuple(extra_args)
        self.options = options

    @property
    def uri(self) -> str:
        """The connection string."""
        return f"mongodb://{HOST}:{self.port}" + (f"/?{self.options}" if self.options else "")

    def _launch(self) -> subprocess.Popen[bytes]:
        # An own empty file, since the server otherwise picks up a configuration from home or /etc.
        config = self.data_dir / "secantusd.toml"
        config.write_text("")
        command = [
            sys.executable,
            "-m",
            "secantus",
            "--config",
            str(config),
            "--host",
            HOST,
            "--port",
            str(self.port),
        ]
        options = [
            "--storage-path",
            str(self.data_dir / "data"),
            "--sync-on-commit",
            "--log-level",
            "WARNING",
        ]
        return self._spawn([*command, *options, *self.extra_args], dict(os.environ))

    def _serves(self) -> bool:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            self.uri, directConnection=True, serverSelectionTimeoutMS=2000
        )
        with client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
        return True
