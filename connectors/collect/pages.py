"""Single pages, named one by one, of sites that offer no feed."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.collect.entry import FeedFacts, platform_of
from connectors.collect.feeds import HOSTS, access_of, facts_from, link_of
from connectors.collect.links import clean_link, key_of
from connectors.collect.readable import Pages, Text, text_of
from connectors.collect.table import Table
from connectors.collect.web import Web
from models.collected import Collected, Finished, Present, Reading, Refused
from models.errors import SourceError


def parse(table: Table) -> "PagesReader":
    """The reader of a `kind = "pages"`."""
    links = [clean_link(link_of(table, "urls", link)) for link in table.texts("urls")]
    if not links:
        table.mistake("urls", "is missing")
    first = links[0] if links else ""
    return PagesReader(links, facts_from(table, first), Web(access_of(table, first), HOSTS))


class PagesReader:
    """Reads pages whose links are given, each only if it has changed."""

    def __init__(self, links: list[str], facts: FeedFacts, web: Web) -> None:
        self._links = links
        self._facts = facts
        self._pages = Pages(web)

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """See `models.collected.Reader`."""
        following: dict[str, str] = {}
        for link in self._links:
            key = key_of(link)
            etag = state.get(link, "")
            try:
                with self._pages.open(link, {"If-None-Match": etag} if etag else {}) as page:
                    if page.status == 304:
                        following[link] = etag
                        yield Present(self._facts.type, key)
                        continue
                    fields = self._fields(link, text_of(page))
                    following[link] = page.headers.get("etag", "")
            except SourceError as error:
                yield Refused(self._facts.type, key, str(error))
                continue
            yield Collected(self._facts.type, key, fields)
        yield Finished(following, whole=True)

    def _fields(self, link: str, text: Text) -> dict[str, Any]:
        facts = self._facts
        article = facts.type == "articles"
        content = {
            "Title": text.title,
            "Subtitle": text.subtitle if text.subtitle != text.title else "",
            "Content": text.content,
            "language": (facts.language or text.language) if article else "",
        }
        fields = {
            "platform": facts.platform or platform_of(link),
            "link": link,
            "author_id": facts.author_id,
            "author": text.author,
            "published_at": text.published_at,
            "language": facts.language or text.language,
            "content": {key: value for key, value in content.items() if value},
        }
        return {key: value for key, value in fields.items() if value}
