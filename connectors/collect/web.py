"""Reading from the web: politely, within limits, and from public addresses only."""

import ssl
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import certifi
import httpcore
from typing_extensions import Self

from connectors.collect.addresses import ForbiddenAddressError, Resolve, resolve
from connectors.collect.blocked import why_blocked
from connectors.collect.body import TooLargeError, TruncatedError, UnknownEncodingError, spool
from connectors.collect.hosts import LONGEST_WAIT_S, Hosts, LeftAloneError, seconds_of
from connectors.collect.links import origin_of, shown_link
from connectors.collect.transport import CheckedBackend
from models.errors import SourceError

AGENT: Final = "twinstream/0.1 (reads what its owner's sources.toml names; not a crawler)"
_TRIES: Final = 4
_REDIRECTS: Final = 5
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 30.0
_IN_MEMORY: Final = 2**20
_MOVED: Final = (301, 302, 303, 307, 308)
_LATER: Final = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Access:
    """What a source allows, and asks of those who read it."""

    private: bool = False
    """Whether addresses that are not public may be connected to."""
    delay_s: float = 1.0
    """Least time between two requests to one host."""
    timeout_s: float = 120.0
    """Longest time of one request, however steadily it answers."""
    token: str = field(default="", repr=False)
    """Sent as a bearer token to the origin of `token_for`, and nowhere else."""
    token_for: str = ""


class Page:
    """An answer with status 200 or 304, whose whole body lies in a file; to be closed."""

    def __init__(self, link: str, status: int, headers: Mapping[str, str], body: IO[bytes]) -> None:
        self.link = link
        """Where it was in the end."""
        self.status = status
        self.headers = headers
        """By their names in small letters."""
        self.body = body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.body.close()


class StatusError(SourceError):
    """The server answers, but not with the page."""

    def __init__(self, where: str, status: int, retry_s: float = 0.0) -> None:
        super().__init__(f"{where}: the server answers with status {status}", retry_s)
        self.status = status


class _LaterError(Exception):
    """May succeed when it is tried again."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Web:
    """Reads pages for one source.

    Parallelism: none; `hosts` is shared by all sources, so that a host is asked in turn.

    :param access: what the source allows
    :param resolve: asks for the addresses of a host
    """

    def __init__(self, access: Access, hosts: Hosts, resolve: Resolve = resolve) -> None:
        self._access = access
        self._hosts = hosts
        self._resolve = resolve

    def get(
        self, link: str, limit: int, accept: str, headers: Mapping[str, str] | None = None
    ) -> Page:
        """Read a page; redirects are followed, and each is checked like the first address.

        :param limit: bytes that the body may have, decompressed
        :raises SourceError: it cannot be had, not even after some tries
        """
        wait_s, failure = 0.5, _LaterError("")
        for tries in range(_TRIES):
            try:
                return self._follow(link, limit, {"Accept": accept, **(headers or {})})
            except _LaterError as error:
                failure = error
                if error.wait_s:
                    self._hosts.leave_alone(_host(link), error.wait_s)
                if error.wait_s > LONGEST_WAIT_S or tries + 1 == _TRIES:
                    break
                wait_s *= 2
                self._hosts.pause(max(wait_s, error.wait_s))
        raise SourceError(f"{shown_link(link)}: {failure}", failure.wait_s) from failure

    def _follow(self, link: str, limit: int, headers: Mapping[str, str]) -> Page:
        here = link
        for _ in range(_REDIRECTS + 1):
            page = self._once(here, limit, headers)
            if page.status not in _MOVED:
                return page
            page.body.close()
            there = urljoin(here, page.headers.get("location", ""))
            if here.startswith("https:") and not there.startswith("https:"):
                raise SourceError(f"{shown_link(link)} redirects to a place without TLS")
            if there == here or "location" not in page.headers:
                raise SourceError(f"{shown_link(link)}: a redirect to nowhere")
            here = there
        raise SourceError(f"{shown_link(link)}: more than {_REDIRECTS} redirects")

    def _once(self, link: str, limit: int, headers: Mapping[str, str]) -> Page:
        url = _ascii(link)
        try:
            self._hosts.wait(_host(url), self._access.delay_s)
        except LeftAloneError as error:
            raise SourceError(f"{shown_link(link)}: {error}", error.seconds) from error
        deadline = time.monotonic() + self._access.timeout_s
        backend = CheckedBackend(self._resolve, self._access.private, deadline)
        body = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (the page closes it)
        try:
            with httpcore.ConnectionPool(_trusted(), network_backend=backend) as connections:
                page = self._ask(connections, url, limit, headers, body)
        except BaseException as error:
            body.close()
            if isinstance(error, _LaterError | SourceError):
                raise
            raise _told(shown_link(link), error, deadline, limit) from error
        return page

    def _ask(
        self,
        connections: httpcore.ConnectionPool,
        url: str,
        limit: int,
        headers: Mapping[str, str],
        body: IO[bytes],
    ) -> Page:
        sent = [("Host", urlsplit(url).netloc), ("User-Agent", AGENT), ("Accept-Encoding", "gzip")]
        sent += headers.items()
        if self._access.token and origin_of(url) == origin_of(self._access.token_for):
            sent.append(("Authorization", f"Bearer {self._access.token}"))
        timeout = {"connect": _CONNECT_S, "read": _SILENCE_S, "write": _SILENCE_S}
        with connections.stream(
            "GET", url, headers=sent, extensions={"timeout": timeout}
        ) as response:
            received = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            if response.status in (304, *_MOVED):
                return Page(url, response.status, received, body)
            with suppress(ValueError):
                if int(received.get("content-length", "0")) > limit:
                    raise TooLargeError
            spool(response.iter_stream(), received.get("content-encoding", ""), limit, body)
        page = Page(url, response.status, received, body)
        _check(page)
        return page


def _check(page: Page) -> None:
    """Raise for an answer that is not what was asked for."""
    head = page.body.read(2**17)
    page.body.seek(0)
    where = shown_link(page.link)
    status = page.status
    if reason := why_blocked(status, page.headers, page.link, head):
        raise SourceError(f"{where}: {reason}", seconds_of(page.headers.get("retry-after", "")))
    if status in _LATER:
        wait_s = seconds_of(page.headers.get("retry-after", ""))
        raise _LaterError(f"the server answers with status {status}", wait_s)
    if status != 200:
        raise StatusError(where, status)


def _told(where: str, error: BaseException, deadline: float, limit: int) -> BaseException:
    """What went wrong with a request, in words; anything unexpected as it is."""
    late = time.monotonic() >= deadline
    if isinstance(error, ForbiddenAddressError):
        return SourceError(f"{where}: {error}")
    if isinstance(error, TooLargeError):
        return SourceError(f"{where}: larger than {limit / 1e6:g} MB: raise max_mb to read it")
    if isinstance(error, UnknownEncodingError):
        return SourceError(f"{where}: {error} was not asked for")
    if isinstance(error, httpcore.UnsupportedProtocol):
        return SourceError(f"{where}: only http and https are read")
    if isinstance(error, httpcore.TimeoutException) and late:
        return SourceError(f"{where}: too slow, the answer took longer than timeout allows")
    if isinstance(error, TruncatedError | httpcore.ProtocolError):
        return _LaterError(f"the answer is truncated or damaged ({error})")
    if isinstance(error, httpcore.TimeoutException):
        return _LaterError("the server does not answer in time")
    if isinstance(error, httpcore.NetworkError | OSError):
        return _LaterError(str(error) or type(error).__name__)
    return error


def _host(link: str) -> str:
    return (urlsplit(link).hostname or "").lower()


def _ascii(link: str) -> str:
    """A link as it goes over the wire.

    :raises SourceError: it is none, or it holds a password
    """
    try:
        parts = urlsplit(link)
        host = (parts.hostname or "").encode("idna").decode()
        port = f":{parts.port}" if parts.port else ""
    except (ValueError, UnicodeError) as error:
        raise SourceError(f"not a link: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise SourceError(f"{shown_link(link)}: only http and https are read")
    if parts.username or parts.password:
        raise SourceError(f"{shown_link(link)}: a link must not hold a name or a password")
    place = f"[{host}]{port}" if ":" in host else f"{host}{port}"
    safe = "/%:@!$&'()*+,;=~-._?"
    path, query = quote(parts.path or "/", safe=safe), quote(parts.query, safe=safe)
    return urlunsplit((parts.scheme, place, path, query, ""))


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that the system trusts, and those of certifi where it has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
