"""A git server on loopback: the real `git http-backend` below Python's HTTP server."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
_LARGEST_REQUEST = 10_000_000


class GitServer:
    """Serves every repository below a folder to whoever can reach 127.0.0.1, for reading.

    A context manager; `url` is that of the folder. It ends with this program, since it is a part
    of it.
    """

    def __init__(self, folder: Path) -> None:
        self._server = _Server(folder)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def authorization(self) -> list[str | None]:
        """Who each request said it was from."""
        return self._server.authorization

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, folder: Path) -> None:
        super().__init__((HOST, 0), _Handler)
        self.folder = folder
        self.authorization: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > _LARGEST_REQUEST:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._answer(self.rfile.read(length))

    def _answer(self, body: bytes) -> None:
        self.server.authorization.append(self.headers.get("Authorization"))
        with tempfile.TemporaryFile() as given:
            given.write(body)
            given.seek(0)
            backend = subprocess.Popen(
                ["git", "http-backend"],
                env=self._environment(len(body)),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        with backend:
            self._pass_on(backend.stdout)

    def _environment(self, length: int) -> dict[str, str]:
        parts = urlsplit(self.path)
        return {
            "PATH": os.defpath,
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_0": "true",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }

    def _pass_on(self, told: Any) -> None:
        """Make an HTTP answer of that of a CGI program."""
        headers = {}
        while line := told.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        while block := told.read(65_536):
            self.wfile.write(block)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (of the library)
        """Say nothing."""
