"""One entry of a feed, as a document."""

import calendar
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate
from typing import Any, Final
from urllib.parse import urlsplit

import feedparser

from connectors.collect.links import clean_link, is_host, key_of
from connectors.collect.plain import plain, short_language

_SUBTITLE: Final = 400
"""Characters of a summary that can be a subtitle."""
_TAGS: Final = 64
_REFERENCE: Final = re.compile(r"&#(?:[xX]([0-9a-fA-F]{1,4000})|([0-9]{1,4000}));")
_TEASERS: Final = ("continue reading on medium", "read more", "continue reading", "[…]", "[...]")


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """What a feed says of all its entries, and how it is to be read."""

    link: str
    """Where the feed was; relative links begin there."""
    source: str
    """The link of the feed in the file."""
    author_id: str
    type: str = "articles"
    platform: str = ""
    """Empty: told from the host."""
    language: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry."""

    key: str
    """Empty if nothing identifies it."""
    link: str
    fields: dict[str, Any] = field(repr=False)
    partial: bool
    """Whether the feed has a summary only."""


def _get(found: Any, name: str) -> Any:
    """What stands there by this very name: the library answers for `updated` with `published`."""
    return dict.get(found, name)


class UnreadableError(ValueError):
    """XML at which the library stops."""


def parse(text: str, link: str) -> Any:
    """A feed, by the library; relative links are resolved, and scripts taken out of HTML.

    :raises UnreadableError: it cannot be read, not even in part
    """
    headers = {"content-type": "application/xml; charset=utf-8", "content-location": link}
    body = io.BytesIO(_with_characters(text).encode("utf-8", "replace"))
    try:
        return feedparser.parse(body, response_headers=headers)
    except Exception as error:  # as for a place without coordinates
        raise UnreadableError(type(error).__name__) from error


def _with_characters(text: str) -> str:
    """Without references to characters that do not exist: the library stops there.

    An emoji as two halves of UTF-16, as some programs write it, becomes the emoji.
    """
    replaced = _REFERENCE.sub(_character, text)
    if replaced == text:
        return text
    return replaced.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(found: "re.Match[str]") -> str:
    code = int(found[1], 16) if found[1] else int(found[2])
    if 0xD800 <= code < 0xE000:
        return chr(code)
    return found[0] if code < 0x110000 else "\ufffd"


def read_entry(text: str, facts: FeedFacts) -> Entry | None:
    """The entry of a feed of one entry; None if the library finds none.

    :param text: as `Cut.entries` gives it
    :raises UnreadableError: the library stops at it
    """
    parsed = parse(text, facts.link)
    if not parsed.entries:
        return None
    entry = parsed.entries[0]
    identity = str(_get(entry, "id") or "").strip()
    link = clean_link(str(_get(entry, "link") or ""), facts.link)
    link = link or clean_link(identity) if identity.startswith(("http:", "https:")) else link
    key = key_of(link, identity) or (f"{facts.source}#{identity}" if identity else "")
    content, partial = _content(entry)
    title = plain(str(_get(entry, "title") or ""))
    summary = plain(str(_get(entry, "summary") or ""))
    subtitle = "" if partial or not _is_subtitle(summary, content) else summary
    language = _language(entry) or facts.language
    fields = {
        "platform": facts.platform or platform_of(link or facts.link),
        "link": link,
        "author_id": facts.author_id,
        "author": plain(str(_get(entry, "author") or "")) or facts.author,
        "published_at": _date_of(entry, "published"),
        "updated_at": _date_of(entry, "updated"),
        "tags": _tags(entry),
        "language": language,
        "content": _told(
            {
                "Title": title,
                "Subtitle": subtitle,
                "Content": content,
                "language": language if facts.type == "articles" else "",
            }
        ),
    }
    return Entry(key, link, _told(fields), partial)


def facts_of(around: str, facts: FeedFacts) -> FeedFacts:
    """The same facts, with what the feed itself tells."""
    try:
        feed = parse(around, facts.link).feed
    except UnreadableError:  # each entry tells enough of itself
        return facts
    return FeedFacts(
        facts.link,
        facts.source,
        facts.author_id,
        facts.type,
        facts.platform or _known_platform(str(_get(feed, "generator") or "")),
        facts.language or short_language(str(_get(feed, "language") or "")),
        plain(str(_get(feed, "author") or "")),
    )


def links_of(around: str, link: str) -> tuple[str, bool, bool]:
    """The next page of a feed (empty: none), whether it is an archive, and whether this page says
    that it lists everything: RFC 5005.

    :raises UnreadableError: it cannot be known whether there are more pages
    """
    feed = parse(around, link).feed
    links = {
        str(one.get("rel") or ""): clean_link(str(one.get("href") or ""), link)
        for one in _get(feed, "links") or ()
    }
    archive = links.get("prev-archive", "")
    return archive or links.get("next", ""), bool(archive), "fh_complete" in feed


def platform_of(link: str) -> str:
    """The platform on whose host a link is; the host itself where it is none of the known."""
    host = (urlsplit(link).hostname or "").removeprefix("www.")
    for domain in ("medium.com", "substack.com", "github.com", "github.io", "linkedin.com"):
        if is_host(host, domain):
            return domain.partition(".")[0]
    return host


def _known_platform(generator: str) -> str:
    found = generator.lower()
    return next((name for name in ("medium", "substack") if name in found), "")


def _content(entry: Mapping[str, Any]) -> tuple[str, bool]:
    """The longest text of an entry as HTML, and whether that is its summary only."""
    contents = [_as_html(one) for one in _get(entry, "content") or ()]
    best = max(contents, key=len, default="")
    if best.strip():
        return best, _is_teaser(best)
    summary = _get(entry, "summary_detail") or {}
    return _as_html(summary), True


def _is_teaser(content: str) -> bool:
    end = plain(content)[-60:].lower().rstrip(" »›>.")
    return len(content) < 2000 and end.endswith(_TEASERS)


def _as_html(detail: Mapping[str, Any]) -> str:
    value = str(detail.get("value") or "")
    return html.escape(value, quote=False) if detail.get("type") == "text/plain" else value


def _is_subtitle(summary: str, content: str) -> bool:
    begins = " ".join(plain(content[: 4 * _SUBTITLE + 2000]).split())
    return 0 < len(summary) <= _SUBTITLE and not begins.startswith(summary[:80].rstrip(" …."))


def _language(entry: Mapping[str, Any]) -> str:
    for one in _get(entry, "content") or ():
        if found := short_language(str(one.get("language") or "")):
            return found
    return ""


def _tags(entry: Mapping[str, Any]) -> list[str]:
    terms = (plain(str(tag.get("term") or "")) for tag in _get(entry, "tags") or ())
    return [term for term in dict.fromkeys(terms) if 0 < len(term) <= 100][:_TAGS]


def _date_of(entry: Mapping[str, Any], name: str) -> datetime | None:
    """A date of an entry; without an offset it is in UTC."""
    parsed = _get(entry, f"{name}_parsed")
    # the library has no date for a weekday without an offset
    return _date(parsed or parsedate(str(_get(entry, name) or "")))


def _date(parsed: Any) -> datetime | None:
    """A date of the library as an aware datetime; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(calendar.timegm(parsed), timezone.utc) if parsed else None
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}
