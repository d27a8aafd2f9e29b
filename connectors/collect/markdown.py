"""A folder of Markdown files with front matter, as site generators and editors keep them."""

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urljoin

from connectors.collect.front_matter import (
    FrontMatterError,
    date_of,
    split_front_matter,
    text_of,
    texts_of,
)
from connectors.collect.links import clean_link, key_of
from connectors.collect.local_files import checked, open_file
from connectors.collect.table import Table
from models.collected import Collected, Finished, Reading, Refused
from models.errors import SourceError
from models.shown import shown

MAX_FILES: Final = 100_000
_SUFFIXES: Final = (".md", ".markdown", ".mdown", ".mdx")
_LARGEST: Final = 5_000_000
_DEEPEST: Final = 32
_HEADING: Final = re.compile(r"^# +(.+?) *#*$", re.MULTILINE)

log = logging.getLogger("connectors.collect")


def parse(table: Table) -> "MarkdownSource":
    """The reader that a table describes; mistakes are noted in it."""
    base = table.text("base_url", "")
    if base and not clean_link(base):
        table.mistake("base_url", f"= {shown(base, 80)} is no link: write https://host/path/")
    return MarkdownSource(
        name=table.name,
        path=table.path("path"),
        author=table.author,
        type=table.choice("type", "articles", ("articles", "posts")),
        platform=table.text("platform", "markdown"),
        base_url=base,
        drafts=table.boolean("drafts"),
    )


@dataclass(frozen=True, slots=True)
class MarkdownSource:
    """Reads the Markdown files below a folder, each as one document.

    Parallelism: one file at a time. Delivery: every document at each reading, since the writer
    compares; what repeats after a kill is the reading. A file that cannot be read is reported and
    costs no other, but then the listing is not whole. Symbolic links are not followed, and files
    and folders whose name begins with a dot are not read.
    """

    name: str
    path: Path
    author: str
    """Of files that name none."""
    type: str = "articles"
    platform: str = "markdown"
    base_url: str = ""
    """What the path of a file, without its suffix, makes a link of; empty: no link."""
    drafts: bool = False
    """Whether files with `draft: true` are documents, too."""

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """The documents of the folder, in the order of paths.

        :raises SourceError: there is no such folder
        """
        del state  # local files cost little to read, and comparing costs nothing to others
        walk = _Walk(self.path)
        seen: set[str] = set()
        whole = True
        for path, text in walk.files():
            one = self._document(path, text)
            if one is None:
                continue
            if isinstance(one, Collected) and one.key in seen:
                one = self._refused(path, "its link is that of an earlier file")
            whole = whole and isinstance(one, Collected)
            seen.add(one.key)
            yield one
        yield Finished({}, whole=whole and walk.whole)

    def _document(self, path: str, text: str | Exception) -> Collected | Refused | None:
        if isinstance(text, Exception):
            return self._refused(path, str(text))
        try:
            head, body = split_front_matter(text)
        except FrontMatterError as error:
            return self._refused(path, str(error))
        if not body.strip() or (head.get("draft") is True and not self.drafts):
            return None
        fields = self._fields(path, head, body)
        link = fields.get("link", "")
        key = key_of(link) if link else f"file:{self.name}/{path}"
        one = checked(self.type, key, fields)
        return self._refused(path, one.reason) if isinstance(one, Refused) else one

    def _fields(self, path: str, head: Mapping[str, Any], body: str) -> dict[str, Any]:
        language = text_of(head, "lang", "language")
        fields = {
            "author_id": text_of(head, "author") or self.author,
            "platform": self.platform,
            "link": self._link(path, head),
            "published_at": date_of(head, "date", "published", "published_at", "pubdate"),
            "updated_at": date_of(head, "updated", "lastmod", "updated_at", "modified"),
            "tags": texts_of(head, "tags", "categories", "keywords"),
            "language": language,
        }
        heading = _HEADING.search(body)
        title = text_of(head, "title") or (heading[1] if heading else PurePosixPath(path).stem)
        content: str | dict[str, str] = body
        if self.type == "articles":
            subtitle = text_of(head, "subtitle", "description", "summary")
            titles = {"Title": title, "Subtitle": subtitle}
            content = {name: value for name, value in titles.items() if value}
            content["Content"] = body
            if language:
                content["language"] = language
        told = {name: value for name, value in fields.items() if value}
        return {**told, "content": content}

    def _link(self, path: str, head: Mapping[str, Any]) -> str:
        """Where the text is published: the head says so, else its path does."""
        named = text_of(head, "canonical_url", "canonical", "link", "url", "permalink", "slug")
        if named and (link := clean_link(named, self.base_url)):
            return link
        if not self.base_url:
            return ""
        place = PurePosixPath(path).with_suffix("")
        if place.name in ("index", "_index", "README"):
            place = place.parent
        base = self.base_url if self.base_url.endswith("/") else f"{self.base_url}/"
        return clean_link(urljoin(base, quote(str(place)) if place.name else ""))

    def _refused(self, path: str, reason: str) -> Refused:
        return Refused(self.type, f"file:{self.name}/{path}", f"{path}: {shown(reason, 200)}")


class _Walk:
    """The Markdown files below a folder, which no link can lead out of."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.whole = True
        """Whether nothing of the folder was left out for a limit or an error."""

    def files(self) -> Iterator[tuple[str, str | Exception]]:
        """Paths, and the text of each or the reason why it has none.

        :raises SourceError: there is no such folder
        """
        try:
            root = self._root.resolve(strict=True)
            root.stat()
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(f"{self._root} cannot be read: {reason}") from error
        if not root.is_dir():
            raise SourceError(f"{self._root} is no folder")
        count = 0
        for parent, folders, names, handle in os.fwalk(root, onerror=self._missed):
            below = PurePosixPath(parent).relative_to(root)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if len(below.parts) >= _DEEPEST:
                self._miss(f"folders below {below} are too deep")
                folders.clear()
            for name in sorted(names):
                if name.startswith(".") or not name.lower().endswith(_SUFFIXES):
                    continue
                count += 1
                if count > MAX_FILES:
                    self._miss(f"it has more than {MAX_FILES:,} files")
                    return
                text = self._text(name, handle)
                if text is not None:
                    yield str(below / name), text

    def _text(self, name: str, folder: int) -> str | Exception | None:
        """None of a symbolic link."""
        try:
            with open_file(name, folder) as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            return OSError(error.strerror or str(error))
        if len(data) > _LARGEST:
            return ValueError(f"it has more than {_LARGEST:,} bytes")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return ValueError("it is not UTF-8")

    def _missed(self, error: OSError) -> None:
        self._miss(str(error))

    def _miss(self, reason: str) -> None:
        self.whole = False
        log.warning("%s: %s", shown(self._root), shown(reason))
