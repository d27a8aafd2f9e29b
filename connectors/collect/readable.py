"""The text of a web page, without what surrounds it."""

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from selectolax.lexbor import LexborHTMLParser

from connectors.collect.links import shown_link
from connectors.collect.plain import plain, short_language
from connectors.collect.robots import Robots
from connectors.collect.web import Page, Web
from models.errors import SourceError

LONGEST: Final = 2 * 2**20
_ACCEPT: Final = "text/html, application/xhtml+xml;q=0.9"
_AROUND: Final = re.compile(r"</?(html|body)>")
_INDENTED: Final = re.compile(r"<(/?)pre>\s*<\1pre>")
"""The library puts a block of code into two of these."""
_SHORTEST: Final = 200
"""Characters below which a page counts as one without a text."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a page says."""

    title: str
    subtitle: str
    content: str
    """HTML."""
    author: str
    published_at: datetime | None
    language: str


class Pages:
    """Reads single pages, as their sites allow.

    :param web: reads them
    """

    def __init__(self, web: Web) -> None:
        self._web = web
        self._robots = Robots(web)

    def open(self, link: str, headers: dict[str, str] | None = None) -> Page:
        """A page.

        :raises SourceError: it cannot be had, or must not be
        """
        if not self._robots.allow(link):
            raise SourceError("the site's robots.txt does not allow this page to be read")
        page = self._web.get(link, LONGEST, _ACCEPT, headers)
        if not self._robots.allow(page.link):  # where it led to
            page.body.close()
            raise SourceError("the site's robots.txt does not allow this page to be read")
        return page


def text_of(page: Page) -> Text:
    """The text of a page.

    :raises SourceError: it has none
    """
    import trafilatura  # takes a moment, and is wanted for full_text and for pages only

    kind = page.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/xhtml+xml"):
        raise SourceError(f"{shown_link(page.link)} is {kind:.40}, not HTML")
    body = page.body.read()
    found = trafilatura.extract(
        body,
        url=page.link,
        output_format="html",
        include_comments=False,
        include_tables=True,
        include_links=True,
        include_formatting=True,
    )
    content = _INDENTED.sub(r"<\1pre>", _AROUND.sub("", found or "")).strip()
    if len(plain(content)) < _SHORTEST:
        raise SourceError(f"{shown_link(page.link)}: no text was found on the page")
    facts = trafilatura.extract_metadata(body, default_url=page.link)
    return Text(
        title=plain(facts.title or ""),
        subtitle=plain(facts.description or ""),
        content=content,
        author=plain(facts.author or ""),
        published_at=_date(facts.date),
        language=_language(body),
    )


def _language(body: bytes) -> str:
    root = LexborHTMLParser(body[: 2**16]).root
    return short_language(str((root.attributes.get("lang") if root else "") or ""))


def _date(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
