"""LinkedIn: the archive of one's own data that the site offers to its members (Settings, Data
privacy, Get a copy of your data), since it has no feed and forbids being read otherwise.
"""

import csv
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit
from zipfile import ZipInfo

from selectolax.lexbor import LexborHTMLParser

from connectors.collect.archive import Archive, MemberError, open_archive
from connectors.collect.links import clean_link
from connectors.collect.table import Table
from models.collected import Collected, Finished, Reading, Refused
from models.errors import SourceError
from models.shown import shown

_SHARES: Final = re.compile(r"shares(?:_\d+)?\.csv", re.IGNORECASE)
_COMMENTS: Final = re.compile(r"comments(?:_\d+)?\.csv", re.IGNORECASE)
_ARTICLE: Final = re.compile(r"(?:^|/)articles/.*\.html?$", re.IGNORECASE)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?")
_HASHTAG: Final = re.compile(r"\{hashtag\|\\?#\|([^}|]+)\}")
_TAG: Final = re.compile(r"(?<![\w&/#])#(\w{2,100})")
_LONGEST_TABLE: Final = 32_000_000
_LONGEST_ARTICLE: Final = 4_000_000

log = logging.getLogger("connectors.collect")


def parse(table: Table) -> "LinkedInSource":
    """The reader that a table describes; mistakes are noted in it."""
    return LinkedInSource(
        path=table.path("path"),
        author=table.author,
        comments=table.boolean("comments"),
        public_only=table.boolean("public_only"),
    )


@dataclass(frozen=True, slots=True)
class LinkedInSource:
    """Reads posts, articles and, if asked for, comments of an export.

    Parallelism: one member of the archive at a time. Delivery: every document at each reading,
    since the writer compares; what repeats after a kill is the reading. A row or a member that
    cannot be read is reported and costs no other, but then the listing is not whole.
    """

    path: Path
    author: str
    comments: bool = False
    public_only: bool = False
    """Leave out posts that were shown to connections or groups only."""

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """Every document of the archive.

        :raises SourceError: it is no archive, or no export of LinkedIn
        """
        del state  # a local file costs little to read, and comparing costs nothing to others
        whole = True
        known = False
        seen: set[str] = set()
        with open_archive(self.path) as archive:
            if archive.skipped:
                log.warning(
                    "%s: %d members are no plain files inside of it and were left out",
                    shown(self.path.name),
                    len(archive.skipped),
                )
            for member in archive.members:
                readings = self._member(archive, member)
                known = known or readings is not None
                for one in readings or ():
                    whole = whole and not isinstance(one, Refused)
                    if isinstance(one, Collected):
                        if one.key in seen:  # newest first; an older row of the same link is old
                            continue
                        seen.add(one.key)
                    yield one
        if not known:
            raise SourceError(
                f"{self.path.name} has neither Shares.csv nor Articles: is it the larger archive "
                "of one's data at LinkedIn?"
            )
        yield Finished({}, whole=whole)

    def _member(self, archive: Archive, member: ZipInfo) -> Iterator[Reading] | None:
        """What one member holds; None of a member that is not ours to read."""
        name = PurePosixPath(member.filename).name
        if _SHARES.fullmatch(name):
            return self._rows(archive, member, self._post)
        if _COMMENTS.fullmatch(name):
            return self._rows(archive, member, self._comment) if self.comments else None
        if _ARTICLE.search(member.filename):
            return self._article(archive, member)
        return None

    def _rows(
        self,
        archive: Archive,
        member: ZipInfo,
        document: Callable[[Mapping[str, str]], Collected | None],
    ) -> Iterator[Reading]:
        """The documents of a table, row by row."""
        try:
            text = archive.read(member, _LONGEST_TABLE).decode("utf-8-sig")
        except (MemberError, UnicodeError) as error:
            yield Refused("posts", member.filename, _reason(error))
            return
        if document == self._comment:  # quotes in comments have backslashes; elsewhere, doubles
            text = text.replace('\\"', '""')
        reader = csv.reader(io.StringIO(text, newline=""))
        header: list[str] = []
        while True:
            try:
                row = next(reader)
                if not header:
                    header = row if "Date" in row else []
                elif row and (one := document(dict(zip(header, row, strict=False)))):
                    yield one
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                place = f"{member.filename} line {reader.line_num}"
                yield Refused("posts", place, f"{place}: {_reason(error)}")

    def _post(self, row: Mapping[str, str]) -> Collected | None:
        text = _commentary(row.get("ShareCommentary", ""))
        if not text or (self.public_only and row.get("Visibility") != "PUBLIC"):
            return None
        link = _link(row.get("ShareLink", ""))
        if not link:
            raise ValueError("a post without its ShareLink")
        fields = {
            **self._common(link, row.get("Date", "")),
            **_some("image", clean_link(row.get("MediaUrl", ""))),
            **_some("shared_link", clean_link(row.get("SharedUrl", ""))),
            **_some("tags", list(dict.fromkeys(_TAG.findall(text)))),
            "content": text,
        }
        return Collected("posts", link, fields)

    def _comment(self, row: Mapping[str, str]) -> Collected | None:
        text, link, date = row.get("Message", "").strip(), _link(row.get("Link", "")), row["Date"]
        if not text:
            return None
        if not link:
            raise ValueError("a comment without its Link")
        key = f"{link}#comment-{date.strip() or text[:40]}"
        return Collected("posts", key, {**self._common(link, date), "content": text})

    def _article(self, archive: Archive, member: ZipInfo) -> Iterator[Reading]:
        try:
            html = archive.read(member, _LONGEST_ARTICLE).decode("utf-8-sig")
        except (MemberError, UnicodeError) as error:
            yield Refused("articles", member.filename, f"{member.filename}: {_reason(error)}")
            return
        article = _read_article(html)
        if article is None:
            return
        slug = PurePosixPath(member.filename).stem
        link = article.link or f"https://www.linkedin.com/pulse/{quote(slug)}"
        content = {"Title": article.title or slug, "Content": article.body}
        fields = {**self._common(link, article.published), "content": content}
        yield Collected("articles", link, fields)

    def _common(self, link: str, date: str) -> dict[str, Any]:
        return {
            "platform": "linkedin",
            "author_id": self.author,
            "link": link,
            **_some("published_at", _date(date)),
        }


@dataclass(frozen=True, slots=True)
class _Article:
    title: str
    link: str
    published: str
    body: str


def _read_article(html: str) -> _Article | None:
    """An article of an export; None of a draft, and of one without text.

    Its title is a heading with a link, and paragraphs of the classes "created" and "published" tell
    when; a draft has the second one without a date.
    """
    page = LexborHTMLParser(html)
    heading = page.css_first("h1")
    anchor = page.css_first("h1 a") or page.css_first('a[href*="linkedin.com/pulse/"]')
    published = page.css_first("p.published")
    told = published.text() if published else ""
    if published and not _DATE.search(told):
        return None
    named = heading or page.css_first("title")
    title = " ".join(named.text().split()) if named else ""
    link = _link((anchor.attributes.get("href") or "") if anchor else "")
    for extra in (heading, published, *page.css("p.created, style, script, title")):
        if extra is not None:
            extra.decompose()
    body = page.body
    content = (body.inner_html or "").strip() if body else ""
    if not body or not body.text().strip():
        return None
    return _Article(title, link, told, content)


def _commentary(text: str) -> str:
    """The text of a post: the export puts each of its lines into quotes of their own."""
    text = text.replace("\r\n", "\n")
    if '"\n"' in text:
        text = text.replace('"\n"', "\n")
        if text.startswith('"') and text.endswith('"'):
            text = text[1:-1]
    return _HASHTAG.sub(r"#\1", text).strip()


def _link(link: str) -> str:
    """A link in one spelling: exports of different years encode the colons of an urn or do not."""
    cleaned = clean_link(link)
    parts = urlsplit(cleaned)
    path = parts.path.replace("%3A", ":").replace("%3a", ":")
    return urlunsplit(parts._replace(path=path))


def _date(text: str) -> datetime | None:
    """The first date in a text; exports are in UTC."""
    found = _DATE.search(text)
    try:
        return datetime.fromisoformat(found[0]).replace(tzinfo=timezone.utc) if found else None
    except ValueError:
        return None


def _some(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def _reason(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
