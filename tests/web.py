"""A real HTTP server on loopback that answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What a path is answered with."""

    body: bytes | str = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """Instead of the real one."""
    send: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Sends the body, instead of `body`."""


class Site:
    """What the server has, and what it was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0

    def url(self, path: str = "/feed") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def next_answer(self, path: str) -> Answer:
        answer = self.answers.get(path, Answer(status=404))
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.asked.append((self.path, headers))
        answer = self.site.next_answer(self.path)
        etag = answer.headers.get("ETag")
        status = 304 if etag and headers.get("if-none-match") == etag else answer.status
        body = b"" if status == 304 else answer.body
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.send is None or answer.length is not None:
            self.send_header("Content-Length", str(answer.length or len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            if answer.send is not None and status != 304:
                answer.send(self)
            else:
                self.wfile.write(body)
        except OSError:
            pass  # who asked has gone
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def rss(*items: str, head: str = "<title>A blog</title>", tail: str = "") -> str:
    """A feed of RSS 2.0 with the namespaces that Medium and Substack use."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/" '
        'xmlns:atom="http://www.w3.org/2005/Atom">'
        f"<channel>{head}{''.join(items)}{tail}</channel></rss>"
    )


def item(name: str, text: str = "", **more: str) -> str:
    """An item with full content."""
    extra = "".join(f"<{tag}>{value}</{tag}>" for tag, value in more.items())
    return (
        f"<item><title>{name}</title><link>https://blog.example/{name}</link>"
        f"<guid>https://blog.example/{name}</guid>{extra}"
        f"<content:encoded><![CDATA[<p>{text or f'The text of {name}.'}</p>]]></content:encoded>"
        "</item>"
    )
