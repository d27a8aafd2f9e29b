"""Feeds of any kind: RSS and Atom, of Medium, Substack and whoever else offers one."""

import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from connectors.collect.encodings import characters, encoding_of
from connectors.collect.entries import Cut, NotAFeedError
from connectors.collect.entry import (
    Entry,
    FeedFacts,
    UnreadableError,
    facts_of,
    links_of,
    read_entry,
)
from connectors.collect.hosts import Hosts
from connectors.collect.links import origin_of
from connectors.collect.readable import Pages, text_of
from connectors.collect.table import Table
from connectors.collect.web import Access, Page, Web
from models.collected import Collected, Finished, Present, Reading, Refused
from models.errors import SourceError

HOSTS: Final = Hosts()
"""Shared by all sources of the process."""

_ACCEPT: Final = "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1"
_REMEMBERED: Final = 4_000_000
"""Characters of the entries that a state remembers."""
_TRY_AGAIN_S: Final = 3600.0
"""A page of an entry that could not be had is asked for again after this."""


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How a feed is read."""

    link: str
    facts: FeedFacts
    full_text: bool
    """Whether the page is read of an entry that has only a summary."""
    whole: bool
    """Whether the feed lists everything there is."""
    pages: int
    """Of a paged feed, how many are read."""
    max_bytes: int


def access_of(table: Table, link: str) -> Access:
    """The options of a source that is read from the web."""
    token, private = table.secret("token"), table.boolean("allow_private")
    if token and not link.startswith("https:") and not private:
        table.mistake("token", "is sent over https only: change the url")
    return Access(
        private=private,
        delay_s=table.number("delay", 1.0, 0 if private else 0.5, 60),
        timeout_s=table.number("timeout", 120, 1, 3600),
        token=token,
        token_for=link,
    )


def link_of(table: Table, option: str, link: str) -> str:
    """A link of the file, checked."""
    if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", link) and link:
        table.mistake(
            option,
            f"= {link.rsplit('@', maxsplit=1)[-1]!r:.80} is no http(s) link without a password",
        )
    return link


def facts_from(table: Table, link: str) -> FeedFacts:
    """What the file says of the documents of a source."""
    return FeedFacts(
        link,
        link,
        table.author,
        table.choice("type", "articles", ("articles", "posts")),
        table.text("platform", ""),
        table.text("language", ""),
    )


def parse(table: Table) -> "FeedReader":
    """The reader of a `kind = "feed"`."""
    link = link_of(table, "url", table.text("url"))
    options = FeedOptions(
        link,
        facts_from(table, link),
        full_text=table.boolean("full_text"),
        whole=table.boolean("whole"),
        pages=table.integer("pages", 10, 1, 1000),
        max_bytes=int(table.number("max_mb", 256, 0.001, 4096) * 1e6),
    )
    return FeedReader(options, Web(access_of(table, link), HOSTS))


class _Memory:
    """What the last reading knew, and what the next one is to know."""

    def __init__(self, state: Mapping[str, str]) -> None:
        self.etag, self.modified = state.get("etag", ""), state.get("modified", "")
        self.known: dict[str, str] = json.loads(state.get("entries", "{}"))
        self.failed: dict[str, float] = json.loads(state.get("failed", "{}"))
        self.key_of = {mark: key for key, mark in self.known.items()}
        self.seen: dict[str, str] = {}
        self.failing: dict[str, float] = {}
        self.sound = True
        """Whether everything was there, as far as one can tell."""

    def conditions(self) -> dict[str, str]:
        told = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in told.items() if value}

    def state(self) -> dict[str, str]:
        """The next state; after a failure nothing keeps the feed from being read again."""
        size = itertools.accumulate(len(key) + 24 for key in self.seen)
        seen = dict(
            one for one, end in zip(self.seen.items(), size, strict=True) if end < _REMEMBERED
        )
        again = not self.sound or bool(self.failing) or len(seen) < len(self.seen)
        return {
            "etag": "" if again else self.etag,
            "modified": "" if again else self.modified,
            "entries": json.dumps(seen),
            "failed": json.dumps(self.failing),
        }


class FeedReader:
    """Reads a feed, entry by entry.

    Entries whose text has not changed are not parsed again, and a feed that the server calls
    unchanged is not even read.
    """

    def __init__(self, options: FeedOptions, web: Web) -> None:
        self._options = options
        self._web = web
        self._pages = Pages(web)

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """See `models.collected.Reader`."""
        memory = _Memory(state)
        conditions = memory.conditions()
        link, visited, lists_all = self._options.link, set[str](), self._options.whole
        while link and len(visited) < self._options.pages:
            visited.add(link)
            with self._web.get(link, self._options.max_bytes, _ACCEPT, conditions) as page:
                if page.status == 304:
                    yield from (Present(self._type, key) for key in memory.known)
                    yield Finished(state, whole=False)
                    return
                if len(visited) == 1:
                    memory.etag = page.headers.get("etag", "")
                    memory.modified = page.headers.get("last-modified", "")
                cut = self._cut(page)
                yield from self._entries(cut, page, memory)
            try:
                following, archive, complete = links_of(cut.around, page.link)
            except UnreadableError:
                memory.sound, following, archive, complete = False, "", False, False
            lists_all = lists_all or complete or archive
            conditions = {}
            if following and (following in visited or origin_of(following) != origin_of(link)):
                memory.sound, following = False, ""
            link = following
        yield Finished(memory.state(), whole=memory.sound and lists_all and not link)

    @property
    def _type(self) -> str:
        return self._options.facts.type

    def _cut(self, page: Page) -> Cut:
        encoding = encoding_of(page.body, page.headers.get("content-type", ""))
        return Cut(characters(page.body, encoding))

    def _entries(self, cut: Cut, page: Page, memory: _Memory) -> Iterator[Reading]:
        facts = replace(self._options.facts, link=page.link)
        told: FeedFacts | None = None
        try:
            for text in cut.entries():
                # what stands before the first entry tells of all of them
                told = told or facts_of(cut.around, facts)
                yield from self._entry(text, told, memory)
        except NotAFeedError as error:
            raise SourceError("its url leads to no feed: look for RSS or Atom") from error
        memory.sound = memory.sound and cut.closed and not cut.too_long
        if cut.too_long:
            yield Refused(self._type, "", f"{cut.too_long} entries are longer than 2 MB")

    def _entry(self, text: str, facts: FeedFacts, memory: _Memory) -> Iterator[Reading]:
        mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        key = memory.key_of.get(mark, "")
        if key:
            if key not in memory.seen:
                memory.seen[key] = mark
                yield Present(self._type, key)
            return
        try:
            entry = read_entry(text, facts)
        except UnreadableError as error:
            memory.sound = False
            yield Refused(self._type, "", f"an entry cannot be read: {error}")
            return
        if entry is None or not entry.key:
            memory.sound = False
            yield Refused(self._type, "", "an entry has neither a link nor an id")
            return
        if entry.key in memory.seen or entry.key in memory.failing:
            return
        try:
            fields = self._full(entry, memory)
            if "content" not in fields:
                return  # there is nothing to read
        except SourceError as error:
            memory.failing.setdefault(entry.key, time.time())
            yield Refused(self._type, entry.key, str(error))
            return
        memory.seen[entry.key] = mark
        yield Collected(self._type, entry.key, fields)

    def _full(self, entry: Entry, memory: _Memory) -> Mapping[str, Any]:
        """The document with the text of its page, if the feed has a summary only."""
        if not (self._options.full_text and entry.partial and entry.link):
            return entry.fields
        tried = memory.failed.get(entry.key, 0.0)
        if 0 <= time.time() - tried < _TRY_AGAIN_S:
            memory.failing[entry.key] = tried
            raise SourceError("its page could not be had lately")
        with self._pages.open(entry.link) as page:
            text = text_of(page)
        content = {**entry.fields.get("content", {}), "Content": text.content}
        return {**entry.fields, "content": content}
