"""Feeds of every shape become documents, and a broken one costs no more than what is broken."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from connectors.collect import feeds
from connectors.collect.encodings import characters, encoding_of
from connectors.collect.entries import Cut
from connectors.collect.entry import FeedFacts
from connectors.collect.table import Table
from connectors.collect.web import Page
from models.collected import Collected, Finished, Present, Reading, Refused
from models.errors import SourceError
from tests.web import item, rss

FEED = "https://blog.example/feed"


class StoredWeb:
    """Answers from memory."""

    def __init__(self, **pages: str | bytes) -> None:
        self.pages: dict[str, tuple[int, Mapping[str, str], bytes]] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        for name, body in pages.items():
            self.put(FEED if name == "feed" else f"https://blog.example/{name}", body)

    def put(self, link: str, body: str | bytes, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[link] = (status, named, content)

    def get(
        self, link: str, limit: int, accept: str, headers: Mapping[str, str] | None = None
    ) -> Page:
        self.asked.append((link, headers or {}))
        if link not in self.pages:
            raise SourceError(f"{link}: no such page")
        status, named, body = self.pages[link]
        etag = named.get("etag", "")
        if etag and (headers or {}).get("If-None-Match") == etag:
            return Page(link, 304, named, io.BytesIO())
        return Page(link, status, named, io.BytesIO(body))


def reader(web: StoredWeb, **options: Any) -> feeds.FeedReader:
    table = Table("blog", {"url": FEED, "author": "jane", **options}, Path(), {})
    made = feeds.parse(table)
    assert [line for line in table.mistakes if "author" not in line] == []
    made._web = made._pages._web = made._pages._robots._web = web  # type: ignore[assignment]
    return made


def read(web: StoredWeb, state: Mapping[str, str] | None = None, **options: Any) -> list[Reading]:
    return list(reader(web, **options).read(state or {}))


def documents(readings: list[Reading]) -> list[Mapping[str, Any]]:
    return [one.fields for one in readings if isinstance(one, Collected)]


def one_document(feed: str | bytes, **options: Any) -> Mapping[str, Any]:
    [document] = documents(read(StoredWeb(feed=feed), **options))
    return document


def end(readings: list[Reading]) -> Finished:
    assert isinstance(readings[-1], Finished)
    return readings[-1]


MEDIUM = rss(
    "<item><title><![CDATA[Vectors & you]]></title>"
    "<link>https://medium.com/@jane/vectors-and-you-0123456789ab?source=rss-9f------2</link>"
    '<guid isPermaLink="false">https://medium.com/p/0123456789ab</guid>'
    "<category><![CDATA[ai]]></category><category><![CDATA[databases]]></category>"
    "<dc:creator><![CDATA[Jane Roe]]></dc:creator>"
    "<pubDate>Mon, 02 Nov 2026 10:00:00 GMT</pubDate>"
    "<atom:updated>2026-11-03T11:00:00.000Z</atom:updated>"
    "<content:encoded><![CDATA[<p>All of <b>it</b>.</p>]]></content:encoded></item>",
    head="<title>Jane on Medium</title><generator>Medium</generator><language>en-US</language>",
)


def test_a_post_of_medium_has_everything_that_retrieval_can_use() -> None:
    [collected, finished] = read(StoredWeb(feed=MEDIUM))
    assert isinstance(collected, Collected)
    assert isinstance(finished, Finished)
    assert collected.key == "https://medium.com/p/0123456789ab"
    assert collected.fields == {
        "platform": "medium",
        "link": "https://medium.com/@jane/vectors-and-you-0123456789ab",
        "author_id": "jane",
        "author": "Jane Roe",
        "published_at": datetime(2026, 11, 2, 10, tzinfo=timezone.utc),
        "updated_at": datetime(2026, 11, 3, 11, tzinfo=timezone.utc),
        "tags": ["ai", "databases"],
        "language": "en",
        "content": {
            "Title": "Vectors & you",
            "Content": "<p>All of <b>it</b>.</p>",
            "language": "en",
        },
    }


def test_a_post_whose_title_changes_on_medium_stays_the_same_document() -> None:
    renamed = MEDIUM.replace("vectors-and-you", "embeddings-and-you")
    keys = [read(StoredWeb(feed=feed))[0].key for feed in (MEDIUM, renamed)]  # type: ignore[union-attr]
    assert keys[0] == keys[1]


def test_a_post_of_substack_has_its_subtitle() -> None:
    feed = rss(
        "<item><title>On order</title><description>Why it matters</description>"
        "<link>https://jane.substack.com/p/on-order</link>"
        "<content:encoded><![CDATA[<p>Order is what one makes of it.</p>]]></content:encoded>"
        "</item>"
    )
    document = one_document(feed)
    assert document["platform"] == "substack"
    assert document["content"]["Subtitle"] == "Why it matters"


ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de" xml:base="https://blog.example/">
<title>Ein Blog</title><author><name>Erika</name></author>
<entry><title type="html">&lt;b&gt;Größe&lt;/b&gt;</title><id>tag:blog.example,2026:1</id>
<link rel="alternate" href="/p/1?utm_source=feed&amp;id=7#top"/>
<published>2026-01-02T03:04:05+02:00</published><updated>2026-01-03T00:00:00Z</updated>
<category term="eins"/><summary>Kurz</summary>
<content type="xhtml">\
<div xmlns="http://www.w3.org/1999/xhtml"><p>Lang, <a href="x">hier</a></p></div></content>
</entry></feed>"""


def test_atom_with_xhtml_a_base_and_a_language() -> None:
    document = one_document(ATOM)
    assert document["link"] == "https://blog.example/p/1?id=7"
    assert document["published_at"] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=timezone.utc)
    assert document["language"] == document["content"]["language"] == "de"
    assert document["author"] == "Erika"
    assert document["content"]["Title"] == "Größe"
    assert 'href="https://blog.example/x"' in document["content"]["Content"]


def test_rss_1_whose_items_stand_beside_the_channel() -> None:
    feed = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<channel rdf:about="x"><title>T</title><items><rdf:Seq/></items></channel>'
        '<item rdf:about="https://blog.example/1"><title>One</title>'
        "<link>https://blog.example/1</link><description>Text one</description></item></rdf:RDF>"
    )
    assert one_document(feed)["content"] == {"Title": "One", "Content": "Text one"}


def test_a_missing_date_is_absent_and_never_now() -> None:
    assert not {"published_at", "updated_at"} & one_document(rss(item("a"))).keys()
    assert "published_at" not in one_document(rss(item("a", pubDate="yesterday, about")))
    assert "published_at" not in one_document(rss(item("a", pubDate="Mon, 99 Foo 99999 0:0:0")))


@pytest.mark.parametrize("zone", ["", " GMT", " +0000"])
def test_a_date_without_an_offset_is_not_lost(zone: str) -> None:
    entry = item("one", pubDate=f"Mon, 01 Jan 2024 10:00:00{zone}")
    published = one_document(rss(entry))["published_at"]
    assert published == datetime(2024, 1, 1, 10, tzinfo=timezone.utc)


def test_plain_text_of_an_atom_feed_is_no_markup() -> None:
    feed = ATOM.replace('type="xhtml"', 'type="text"').replace(
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>Lang, <a href="x">hier</a></p></div>',
        "if a &lt;b&gt; c",
    )
    assert one_document(feed)["content"]["Content"] == "if a &lt;b&gt; c"


def test_scripts_are_taken_out() -> None:
    document = one_document(rss(item("a", "x<script>alert(1)</script><img src=q onerror=f()>")))
    assert "script" not in document["content"]["Content"]
    assert "onerror" not in document["content"]["Content"]


BROKEN = {
    "an unescaped ampersand": item("bad", pubDate="<x>A & B</x>"),
    "an unclosed tag": "<item><title>bad</title><link>https://blog.example/bad</link><b>"
    "<description>Text</description></item>",
    "a control character": item("bad\x0b", "te\x00xt"),
    "an unknown entity": item("bad", category="&nonsense;"),
    "a comment with an end tag": "<item><!-- </item> --><title>bad</title>"
    "<link>https://blog.example/bad</link><description>Text</description></item>",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_broken_xml_breaks_no_other_entry(broken: str) -> None:
    found = documents(read(StoredWeb(feed=rss(item("one"), broken, item("two")))))
    titles = [document["content"]["Title"] for document in found]
    assert titles[0] == "one"
    assert titles[-1] == "two"
    assert len(titles) == 3


@pytest.mark.parametrize("stopper", ["<gml:pos>a</gml:pos>", "&#x" + "1" * 5000 + ";"])
def test_an_entry_at_which_the_library_stops_hides_no_other(stopper: str) -> None:
    bad = f"<item><title>bad{stopper}</title>{stopper}<link>https://blog.example/bad</link></item>"
    named = rss(item("one"), bad, item("two"))
    named = named.replace("<rss ", '<rss xmlns:gml="http://www.opengis.net/gml" ')
    found = read(StoredWeb(feed=named), whole=True)
    assert [one["content"]["Title"] for one in documents(found)] == ["one", "two"]
    assert len([one for one in found if isinstance(one, Refused)]) == 1
    assert not end(found).whole


def test_a_feed_whose_own_words_stop_the_library_is_read_and_never_whole() -> None:
    """Nobody knows whether it names a next page."""
    found = read(StoredWeb(feed=rss(item("one"), head="<gml:pos>a</gml:pos>")), whole=True)
    assert [one["content"]["Title"] for one in documents(found)] == ["one"]
    assert not end(found).whole


def test_an_emoji_in_two_halves_is_an_emoji() -> None:
    text = "&#55357;&#56832; &#xD83D;&#xDE00; &#xD800; &#x110000; &#65;"
    title = one_document(rss(item("one").replace("one", text, 1)))["content"]["Title"]
    assert title == "\U0001f600 \U0001f600 \ufffd \ufffd A"


ENCODED = {
    "utf-8 called latin-1": ("utf-8", "iso-8859-1", ""),
    "latin-1 called utf-8": ("windows-1252", "utf-8", ""),
    "latin-1 without a name": ("windows-1252", "", ""),
    "utf-16 with a mark": ("utf-16", "utf-16", ""),
    "utf-16 without one": ("utf-16-be", "", ""),
    "named by the server only": ("koi8-r", "", "application/xml; charset=koi8-r"),
    "a name that nobody knows": ("utf-8", "x-unheard-of", ""),
    "a name of no encoding of text": ("utf-8", "punycode", ""),
}


@pytest.mark.parametrize("case", ENCODED.values(), ids=ENCODED.keys())
def test_a_wrong_encoding_is_seen_through(case: tuple[str, str, str]) -> None:
    encoding, declared, content_type = case
    text = "Привет" if encoding == "koi8-r" else "Größe – “quoted”"
    feed = rss(item("a", text))
    prolog = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    body = (prolog + feed.partition("?>")[2]).encode(encoding)
    web = StoredWeb()
    web.put(FEED, body, content_type=content_type)
    [document] = documents(read(web))
    assert text in document["content"]["Content"]


def test_an_encoding_that_looks_like_ascii_is_believed() -> None:
    body = '<?xml version="1.0" encoding="iso-2022-jp"?><rss>こんにちは</rss>'.encode("iso-2022-jp")
    stream = io.BytesIO(body)
    assert "こんにちは" in "".join(characters(stream, encoding_of(stream, "")))


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)).replace("&a0;", "&a;")
    + '<!ENTITY file SYSTEM "file:///etc/hostname">]>'
)


def test_entities_are_neither_multiplied_nor_fetched() -> None:
    """A billion laughs, and a file of this machine."""
    host = Path("/etc/hostname").read_text().strip() if Path("/etc/hostname").exists() else "?"
    feed = BOMB + rss(item("a", category="&a9;", author="&file;")).partition("?>")[2]
    document = one_document(feed)
    assert len(str(document)) < 1000
    assert host not in str(document)


def test_a_large_feed_takes_the_memory_of_one_entry() -> None:
    head = rss().partition("</channel>")[0]
    cut = Cut(head if i == 0 else item(str(i), "word " * 4000) for i in range(401))
    tracemalloc.start()
    count = sum(len(text) > 20_000 for text in cut.entries())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 400
    assert peak < 1_000_000, "8 MB went through"


def test_an_entry_that_is_too_long_is_left_out_and_said() -> None:
    long = item("long", "x" * 3_000_000)
    readings = read(StoredWeb(feed=rss(item("one"), long, item("two"))))
    assert [d["content"]["Title"] for d in documents(readings)] == ["one", "two"]
    assert [one.reason for one in readings if isinstance(one, Refused)]
    assert not end(readings).state["etag"]


def test_a_page_that_is_no_feed_is_an_error_in_words() -> None:
    for body in ("<html><body>Hello</body></html>", "", "{}"):
        with pytest.raises(SourceError, match="no feed"):
            read(StoredWeb(feed=body))


def test_a_feed_that_is_cut_off_is_read_again_and_never_whole() -> None:
    cut_off = rss(item("one"), item("two"))[:-60]
    web = StoredWeb()
    web.put(FEED, cut_off, etag='"1"')
    readings = read(web, whole=True)
    assert [d["content"]["Title"] for d in documents(readings)] == ["one"]
    assert not end(readings).whole
    assert end(readings).state["etag"] == ""


def test_unchanged_entries_are_not_parsed_again() -> None:
    web = StoredWeb(feed=rss(item("one"), item("two")))
    state = end(read(web)).state
    web.put(FEED, rss(item("one"), item("two", "Another text.")))
    one, two, _ = read(web, state)
    assert isinstance(one, Present)
    assert isinstance(two, Collected)


def test_a_feed_that_has_not_changed_is_not_sent_again() -> None:
    web = StoredWeb()
    web.put(FEED, rss(item("one")), etag='"7"', last_modified="Mon, 02 Nov 2026 10:00:00 GMT")
    state = end(read(web)).state
    readings = read(web, state)
    assert web.asked[-1][1]["If-None-Match"] == '"7"'
    assert "If-Modified-Since" in web.asked[-1][1]
    assert [type(one) for one in readings] == [Present, Finished]
    assert end(readings).state == state


def test_pages_of_a_feed_are_followed_on_its_own_host_only() -> None:
    link = '<atom:link rel="next" href="{}"/>'
    web = StoredWeb(
        feed=rss(item("a"), head=link.format("/page2")),
        page2=rss(item("b"), tail=link.format("https://elsewhere.example/page3")),
    )
    readings = read(web, whole=True)
    assert [d["content"]["Title"] for d in documents(readings)] == ["a", "b"]
    assert not end(readings).whole
    web.put("https://blog.example/page2", rss(item("b"), tail=link.format("/feed")))
    assert not end(read(web, whole=True)).whole, "a circle"
    web.put("https://blog.example/page2", rss(item("b")))
    assert end(read(web, whole=True)).whole
    assert not end(read(web, whole=True, pages=1)).whole
    assert not end(read(web)).whole, "the newest entries are not all there are"


def test_an_archive_that_was_walked_to_its_end_is_whole() -> None:
    web = StoredWeb(
        feed=rss(item("a"), head='<atom:link rel="prev-archive" href="/old"/>'),
        old=rss(item("b")),
    )
    assert end(read(web)).whole


def test_an_entry_that_is_listed_twice_counts_once() -> None:
    readings = read(StoredWeb(feed=rss(item("a", "first"), item("a", "second"))))
    [document] = documents(readings)
    assert "first" in document["content"]["Content"]


def test_an_entry_that_nothing_identifies_is_refused() -> None:
    readings = read(StoredWeb(feed=rss("<item><title>a</title></item>", item("b"))), whole=True)
    assert isinstance(readings[0], Refused)
    assert not end(readings).whole


SUMMARY = "<item><title>a</title><link>https://blog.example/a</link><description>Short</description></item>"
PAGE = (
    "<html lang=en><head><title>a</title></head><body><nav><a href=/>Home</a></nav><article>"
    f"<h1>a</h1><p>{'The long text of the page. ' * 20}</p></article></body></html>"
)


def test_a_summary_stays_one_unless_the_source_allows_its_page() -> None:
    web = StoredWeb(feed=rss(SUMMARY), a=PAGE)
    assert one_document(rss(SUMMARY))["content"]["Content"] == "Short"
    web.put("https://blog.example/robots.txt", "User-agent: *\nAllow: /")
    [document] = documents(read(web, full_text=True))
    assert "The long text of the page." in document["content"]["Content"]
    assert "Home" not in document["content"]["Content"]


def test_robots_are_respected_for_single_pages() -> None:
    web = StoredWeb(feed=rss(SUMMARY), a=PAGE)
    web.put("https://blog.example/robots.txt", "User-agent: *\nDisallow: /a")
    readings = read(web, full_text=True)
    assert [one.reason for one in readings if isinstance(one, Refused)] == [
        "the site's robots.txt does not allow this page to be read"
    ]
    assert "https://blog.example/a" not in [link for link, _ in web.asked]


def test_a_page_that_cannot_be_had_is_asked_for_again_an_hour_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    web = StoredWeb()
    web.put(FEED, rss(SUMMARY), etag='"1"')
    web.put("https://blog.example/robots.txt", "")
    state = end(read(web, full_text=True)).state
    assert state["etag"] == "", "the feed is asked for again, since its entry is missing"
    web.put("https://blog.example/a", PAGE)
    assert not documents(read(web, state, full_text=True))
    later = time.time() + 3700
    monkeypatch.setattr("time.time", lambda: later)
    assert documents(read(web, state, full_text=True))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a unit test asks the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_facts_of_the_file_win_over_those_of_the_feed() -> None:
    document = one_document(MEDIUM, language="de", platform="press", type="posts")
    assert (document["language"], document["platform"]) == ("de", "press")
    assert "language" not in document["content"]
    assert FeedFacts(FEED, FEED, "jane").type == "articles"
