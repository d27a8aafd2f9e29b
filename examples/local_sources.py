"""Sources to collect from, on this machine: a feed of Medium's shape and a repository.

Both are served as they would be elsewhere, by an HTTP server and by git's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from examples.place import ExampleError
from ops.flow_process import ROOT
from ops.git_server import GitServer

Sources = dict[str, dict[str, Any]]
"""Tables of `sources.toml` by name."""

QUESTION_OF_FEED: Final = "why does a cache of answers go stale, and what keeps it honest?"
QUESTION_OF_REPOSITORY: Final = "which files of a repository are left out because of gitignore?"

_FILES: Final = ("git_tree.py", "texts.py")
"""The repository is a part of this one: its own reader of repositories."""

_FEED: Final = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:atom="http://www.w3.org/2005/Atom">
<channel>
  <title>Stories by Noor Haddad on Medium</title>
  <link>https://medium.com/@noor-haddad?source=rss-5f2b8c1d9e0a------2</link>
  <item>
    <title>The cache that told yesterday's news</title>
    <link>https://medium.com/@noor-haddad/yesterdays-news-4b1d0c9e7f21?source=rss-5f2b------2</link>
    <guid isPermaLink="false">https://medium.com/p/4b1d0c9e7f21</guid>
    <category>caching</category><category>databases</category>
    <dc:creator>Noor Haddad</dc:creator>
    <pubDate>Tue, 06 Oct 2026 08:15:00 GMT</pubDate>
    <atom:updated>2026-10-07T09:00:00.000Z</atom:updated>
    <content:encoded><![CDATA[<h4>What a stale answer costs, and what it takes to notice</h4>
      <p>We had put a cache of answers in front of a slow search. It was fast for a month. Then an
      author corrected a price, and for nine hours our assistant went on quoting the old one.</p>
      <p>An expiry time does not mend that. It only says for how long you agree to be wrong. The
      honest way is to listen to the source: whenever a row changes, drop the answers that were
      made of it, and nothing else.</p>]]></content:encoded>
  </item>
  <item>
    <title>Pagination is a promise</title>
    <link>https://medium.com/@noor-haddad/pagination-is-a-promise-9a8b7c6d5e4f?source=rss-5f2b------2</link>
    <guid isPermaLink="false">https://medium.com/p/9a8b7c6d5e4f</guid>
    <dc:creator>Noor Haddad</dc:creator>
    <pubDate>Mon, 05 Oct 2026 08:15:00 GMT</pubDate>
    <content:encoded><![CDATA[<p>Page two of a list is only meaningful if page one has not moved.
      Offsets break as soon as somebody inserts a row; a cursor names the last row that you have
      seen, and the next page begins after it, whatever happened meanwhile.</p>]]></content:encoded>
  </item>
</channel></rss>
"""


@contextlib.contextmanager
def local_sources(folder: Path) -> Iterator[Sources]:
    """Serve the feed and the repository while the context lasts; tables that name them."""
    if shutil.which("git") is None:
        raise ExampleError("the program git is missing, which serves and reads a repository here")
    _make_repository(folder / "collecting.git")
    with _feed_server() as feed, GitServer(folder) as repositories:
        yield {
            "medium": {
                "kind": "feed",
                "url": f"{feed}/feed/@noor-haddad",
                "author": "noor-haddad",
                "allow_private": True,
            },
            "github": {
                "kind": "git",
                "url": f"{repositories.url}/collecting.git",
                "author": "twinstream",
                "allow_private": True,
            },
        }


def write_sources(file: Path, sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Write tables as `sources.toml`."""
    lines = []
    for name, options in sources.items():
        lines.append(f"[sources.{name}]")
        # TOML writes strings and truths as JSON does, but for DEL and characters beyond 16 bits
        told = {key: json.dumps(value, ensure_ascii=False) for key, value in options.items()}
        lines += [f"{key} = {value}".replace("\x7f", "\\u007f") for key, value in told.items()]
    file.write_text("\n".join([*lines, ""]), "utf-8")


def _make_repository(path: Path) -> None:
    environment = {
        "PATH": os.defpath,
        "HOME": str(path.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def git(*arguments: str, given: bytes = b"") -> None:
        subprocess.run(["git", *arguments], cwd=path, env=environment, input=given, check=True)

    path.mkdir(parents=True)
    git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".")
    stream = b"commit refs/heads/main\ncommitter a <a@example.org> 1790000000 +0000\ndata 1\nx\n"
    for name in _FILES:
        text = (ROOT / "connectors" / "collect" / name).read_bytes()
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text)
    git("fast-import", "--quiet", given=stream)


@contextlib.contextmanager
def _feed_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Feed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Feed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _FEED.encode()
        if not self.path.startswith("/feed/"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/rss+xml; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (of the library)
        """Say nothing."""
