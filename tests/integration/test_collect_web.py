"""The web, as a real server on loopback plays it: slow, broken, hostile, in the way."""

from __future__ import annotations

import gzip
import io
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpcore
import pytest

from connectors.collect import transport
from connectors.collect.hosts import Hosts, seconds_of
from connectors.collect.web import Access, Page, Web
from models.errors import SourceError
from tests.web import Answer, Site, rss, serving

LIMIT = 1_000_000


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.answers["/feed"] = Answer(rss())
        yield site


class Pauses:
    """Notes what is waited for, without waiting."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


def web(pauses: Pauses | None = None, **access: object) -> Web:
    options: dict[str, object] = {"private": True, "delay_s": 0.0, "timeout_s": 5.0, **access}
    return Web(Access(**options), Hosts(pause=pauses or Pauses()))  # type: ignore[arg-type]


def get(link: str, reader: Web | None = None, limit: int = LIMIT) -> bytes:
    with (reader or web()).get(link, limit, "*/*") as page:
        return page.body.read()


def refused(link: str, reader: Web | None = None, limit: int = LIMIT) -> str:
    with pytest.raises(SourceError) as caught:
        get(link, reader, limit)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_page_is_read_with_an_honest_name(site: Site) -> None:
    assert get(site.url()) == rss().encode()
    [(_, headers)] = site.asked
    assert headers["user-agent"].startswith("twinstream/")
    assert headers["host"] == f"127.0.0.1:{site.port}"


def test_a_server_that_asks_for_patience_gets_it(site: Site) -> None:
    pauses = Pauses()
    busy = Answer(status=429, headers={"Retry-After": "7"})
    site.answers["/feed"] = [busy, Answer(status=503), Answer("here")]
    assert get(site.url(), web(pauses)) == b"here"
    assert max(pauses.waited) >= 7
    assert len(site.asked) == 3


def test_a_server_that_asks_for_an_hour_is_left_alone_for_it(site: Site) -> None:
    site.answers["/feed"] = Answer(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(SourceError, match="status 429") as caught:
        get(site.url())
    assert caught.value.retry_s == 3600
    assert len(site.asked) == 1


def test_a_host_that_wants_to_be_left_alone_is_so_for_every_source(site: Site) -> None:
    """A thread that waited for a day counted as one that stands still, and ended the flow."""
    site.answers["/feed"] = Answer(status=503, headers={"Retry-After": "99999999"})
    pauses = Pauses()
    hosts = Hosts(pause=pauses)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            Web(Access(private=True, delay_s=0), hosts).get(site.url(), LIMIT, "*/*")
    assert len(site.asked) == 1
    assert 86_000 < caught.value.retry_s <= 86_400
    assert not pauses.waited


def test_retry_after_takes_dates_and_bears_nonsense() -> None:
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert 3e9 > seconds_of("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9
    assert seconds_of("soon") == seconds_of("") == seconds_of("-5") == 0


def test_requests_to_a_host_are_spread_over_time() -> None:
    now = [0.0]
    pauses = Pauses()
    hosts = Hosts(lambda: now[0], pauses)
    for host in ("a", "a", "b", "a"):
        hosts.wait(host, 1.0)
    assert pauses.waited == [1.0, 2.0]


def test_loopback_is_refused_unless_the_source_allows_it(site: Site) -> None:
    for host in (
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::ffff:127.0.0.1]",
    ):
        reason = refused(f"http://{host}:{site.port}/feed", web(private=False))
        assert "not public" in reason, host
    assert site.asked == []


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/secret", "http://169.254.169.254/latest/meta-data/", "//[::1]/x"],
)
def test_a_redirect_to_an_address_that_is_not_public_is_refused(
    site: Site, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server is public, as far as the reader can tell; it leads into the network."""
    site.answers["/feed"] = Answer(status=302, headers={"Location": target.format(port=site.port)})
    route_to(monkeypatch, site)
    reader = Web(Access(delay_s=0), Hosts(pause=Pauses()), resolve=by_name)
    assert "not public" in refused("http://public.example/feed", reader)
    assert site.paths() == ["/feed"]


def by_name(host: str, port: int) -> list[str]:
    return ["93.184.216.34"] if host.endswith(".example") else [host]


def route_to(monkeypatch: pytest.MonkeyPatch, site: Site) -> list[str]:
    """Let connections to public addresses arrive at the site; the addresses connected to."""
    connected: list[str] = []

    def connect(self: object, address: str, port: int, timeout: float | None) -> object:
        connected.append(address)
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", site.port, timeout)

    monkeypatch.setattr(transport.CheckedBackend, "_connect", connect)
    return connected


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: a name server that answers first with a public address, then with loopback."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    connected = route_to(monkeypatch, site)
    reader = Web(Access(delay_s=0), Hosts(pause=Pauses()), resolve=rebinding)
    assert get("http://rebinding.example/feed", reader) == rss().encode()
    assert (asked, connected) == (["rebinding.example"], ["93.184.216.34"])
    assert "not public" in refused("http://rebinding.example/feed", reader)
    assert connected == ["93.184.216.34"]


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "ftp://a.example/", "gopher://a.example", "x"]
)
def test_only_http_is_read(link: str) -> None:
    assert "only http" in refused(link)


def test_a_redirect_to_a_file_or_without_tls_or_round_in_circles_ends(site: Site) -> None:
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/"):
        site.answers["/feed"] = Answer(status=302, headers={"Location": location})
        refused(site.url())
    site.answers["/feed"] = Answer(status=302, headers={"Location": "/more"})
    site.answers["/more"] = Answer(status=302, headers={"Location": "/feed"})
    assert "more than 5 redirects" in refused(site.url())
    site.answers["/feed"] = Answer(status=302)
    assert "nowhere" in refused(site.url())


def test_a_token_goes_to_its_own_host_and_to_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    route_to(monkeypatch, site)
    token = {"token": "t0ken", "token_for": "http://a.example/feed"}
    reader = Web(Access(delay_s=0, **token), Hosts(pause=Pauses()), resolve=by_name)  # type: ignore[arg-type]
    site.answers["/feed"] = Answer(status=302, headers={"Location": "http://b.example/there"})
    site.answers["/there"] = Answer(status=302, headers={"Location": "http://a.example:81/x"})
    site.answers["/x"] = Answer("here")
    assert get("http://a.example/feed", reader) == b"here"
    assert [headers.get("authorization") for _, headers in site.asked] == [
        "Bearer t0ken", None, None,
    ]  # fmt: skip
    assert "t0ken" not in repr(reader._access)


def short(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"<rss>")


def test_a_truncated_body_is_never_taken_for_the_whole(site: Site) -> None:
    pauses = Pauses()
    site.answers["/feed"] = Answer(send=short, length=1000)
    assert "truncated" in refused(site.url(), web(pauses))
    assert len(site.asked) == 4, "it is tried again"
    whole = gzip.compress(b"x" * 100_000)
    site.answers["/feed"] = Answer(whole[:-20], headers={"Content-Encoding": "gzip"})
    assert "truncated" in refused(site.url())
    site.answers["/feed"] = Answer(whole, headers={"Content-Encoding": "gzip"})
    assert get(site.url()) == b"x" * 100_000


def drip(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(100):
        handler.wfile.write(b"<rss>")
        handler.wfile.flush()
        time.sleep(0.05)


def test_a_body_that_trickles_ends_at_the_deadline(site: Site) -> None:
    site.answers["/feed"] = Answer(send=drip, length=10_000)
    began = time.monotonic()
    assert "too slow" in refused(site.url(), web(timeout_s=0.5))
    assert time.monotonic() - began < 3


def test_a_server_that_says_nothing_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "too slow" in refused(f"http://127.0.0.1:{port}/", web(timeout_s=0.3))


def test_a_body_is_read_up_to_its_limit_only(site: Site) -> None:
    site.answers["/feed"] = Answer(b"x" * 2000)
    assert "raise max_mb" in refused(site.url(), limit=1000)
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    site.answers["/feed"] = Answer(
        gzip.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "gzip"}
    )
    assert "raise max_mb" in refused(site.url())
    assert len(bomb) < 1000


def test_a_compression_that_was_not_asked_for_is_refused(site: Site) -> None:
    site.answers["/feed"] = Answer(b"x", headers={"Content-Encoding": "br"})
    assert "not asked for" in refused(site.url())


def test_a_server_that_is_away_is_tried_again_and_told(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    pauses = Pauses()
    refused(f"http://127.0.0.1:{port}/", web(pauses))
    assert len(pauses.waited) == 3
    assert pauses.waited == sorted(pauses.waited)


CHECK = "<html><head><title>Just a moment...</title></head><body>Verify</body></html>"
IN_THE_WAY = {
    "a challenge": Answer(CHECK, 403, {"Content-Type": "text/html"}),
    "a challenge that says that all is well": Answer(CHECK, 200, {"Content-Type": "text/html"}),
    "a challenge in a header": Answer("x", 403, {"cf-mitigated": "challenge"}),
    "a captcha": Answer(
        '<html><body><div id="px-captcha"></div></body></html>', 200, {"Content-Type": "text/html"}
    ),
    "a login": Answer(
        "<html><title>Sign in</title><form><input type=password></form></html>",
        200, {"Content-Type": "text/html"},
    ),
    "401": Answer("", 401),
}  # fmt: skip


@pytest.mark.parametrize("answer", IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_a_page_that_stands_in_the_way_is_recognised(site: Site, answer: Answer) -> None:
    site.answers["/feed"] = answer
    reason = refused(site.url())
    assert "checks for bots" in reason or "asks for a login" in reason


def test_a_redirect_to_a_login_is_recognised(site: Site) -> None:
    site.answers["/feed"] = Answer(status=302, headers={"Location": "/login?next=/feed"})
    site.answers["/login?next=/feed"] = Answer(
        "<html>Hi</html>", headers={"Content-Type": "text/html"}
    )
    assert "login" in refused(site.url())


def test_an_article_about_captchas_is_an_article(site: Site) -> None:
    text = f"<html><title>On logins</title>{'<p>What a px-captcha does.</p>' * 200}</html>"
    site.answers["/feed"] = Answer(text, headers={"Content-Type": "text/html"})
    assert get(site.url()) == text.encode()


def test_a_page_is_closed_with_its_file() -> None:
    body = io.BytesIO(b"x")
    with Page("https://a.example/", 200, {}, body):
        pass
    assert body.closed
