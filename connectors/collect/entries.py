"""Cuts a feed into its entries while it is read, so that memory holds one of them at a time.

No XML parser sees the whole: one would stop at the first mistake, hold everything, and believe a
DOCTYPE, which is left out here together with comments and instructions. Each entry is then parsed
by itself (`connectors.collect.entry`), so a broken one breaks no other.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

LONGEST: Final = 2**21
"""Characters of an entry."""

_OUTSIDE: Final = 2**17
_TOKEN: Final = re.compile(
    r"<!--|<!\[CDATA\[|<!DOCTYPE|<\?|<(?P<end>/?)(?P<name>(?:[\w.-]+:)?(?:rss|rdf|feed|channel|item|entry))"
    r"(?=[\s/>])",
    re.IGNORECASE,
)
_TAIL: Final = 80
"""Characters at the end of a piece in which a token may have begun."""
_INVALID: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ENTRY_OF: Final = {"rss": "item", "rdf": "item", "feed": "entry"}


class NotAFeedError(Exception):
    """Text that has none of the elements a feed begins with."""


class _Kept:
    """Text up to a limit; what is longer is counted and not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        self._size += len(text)
        if self._size <= self._limit:
            self._parts.append(text)

    @property
    def whole(self) -> bool:
        return self._size <= self._limit

    def text(self) -> str:
        return "".join(self._parts)


class Cut:
    """A feed, cut into entries.

    :param pieces: its text
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._buffer = ""
        self._at = 0
        self._opened: list[str] = []
        """The tags that are open around an entry, as they stand there."""
        self._kept = self._outside = _Kept(_OUTSIDE)
        self._entry = ""
        self.closed = False
        """Whether the feed came to its own end; only then it can have been complete."""
        self.too_long = 0
        """Entries that were left out for their length."""

    def entries(self) -> Iterator[str]:
        """Each entry as a feed of one entry.

        :raises NotAFeedError: it is something else
        """
        while (token := self._next()) is not None:
            name = self._bare(token["name"] or "")
            if not token["name"]:
                self._skip(token[0])
            elif not self._entry:
                if name in _ENTRY_OF and not token["end"]:
                    self._entry = _ENTRY_OF[name]
                    self._open(token)
                elif not self.closed:
                    raise NotAFeedError
            elif name == self._entry:
                yield from self._cut(token)
            else:
                self._around(name, token)
        if not self._entry:
            raise NotAFeedError

    @property
    def around(self) -> str:
        """What stands outside of the entries, as a feed without any; complete after the last."""
        return self._feed(self._outside.text())

    def _next(self) -> "re.Match[str] | None":
        """The next token; what comes before it is kept where it belongs."""
        while True:
            token = _TOKEN.search(self._buffer, self._at)
            if token is not None:
                self._kept.add(self._buffer[self._at : token.start()])
                self._at = token.end()
                return token
            end = max(self._at, len(self._buffer) - _TAIL)
            self._kept.add(self._buffer[self._at : end])
            self._at = end
            if not self._more():
                self._kept.add(self._buffer[self._at :])
                return None

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._buffer = self._buffer[self._at :] + _INVALID.sub("", piece)
        self._at = 0
        return True

    def _until(self, end: str, kept: _Kept | None) -> str:
        """Go on after the next `end`; the character before it."""
        before = ""
        while True:
            found = self._buffer.find(end, self._at)
            stop = found if found >= 0 else max(self._at, len(self._buffer) - len(end) + 1)
            before = self._buffer[stop - 1] if stop > self._at else before
            if kept is not None:
                kept.add(self._buffer[self._at : stop + (len(end) if found >= 0 else 0)])
            self._at = stop
            if found >= 0:
                self._at += len(end)
                return before
            if not self._more():
                self._at = len(self._buffer)
                return before

    def _skip(self, opening: str) -> None:
        if opening == "<!--":
            self._until("-->", None)
        elif opening == "<?":
            self._until("?>", None)
        elif opening == "<![CDATA[":
            self._kept.add(opening)
            self._until("]]>", self._kept)
        else:
            declaration = _Kept(2**20)
            self._until(">", declaration)
            if "[" in declaration.text() and "]" not in declaration.text():
                self._until("]", None)
                self._until(">", None)

    def _open(self, token: "re.Match[str]") -> None:
        tag = _Kept(2**16)
        tag.add(token[0])
        self._until(">", tag)
        self._opened.append(tag.text())

    def _around(self, name: str, token: "re.Match[str]") -> None:
        """A tag of the feed itself."""
        outside = self._kept is self._outside
        if outside and name == "channel" and not token["end"] and len(self._opened) == 1:
            self._open(token)
            if self._root == "rdf":
                self._kept.add(self._opened.pop())  # entries of RSS 1.0 stand beside it
        elif outside and token["end"] and name == self._root:
            self.closed = True
            self._until(">", None)
        elif outside and token["end"] and name == "channel" and self._root != "rdf":
            self._until(">", None)
        else:
            self._kept.add(token[0])

    def _cut(self, token: "re.Match[str]") -> Iterator[str]:
        if token["end"]:
            self._kept.add(token[0])
            self._until(">", self._kept)
            if self._kept is not self._outside:
                entry, self._kept = self._kept, self._outside
                if entry.whole:
                    yield self._feed(entry.text())
                else:
                    self.too_long += 1
            return
        if self._kept is self._outside:
            self._kept = _Kept(LONGEST)
        self._kept.add(token[0])
        if self._until(">", self._kept) == "/":
            self._kept = self._outside

    @property
    def _root(self) -> str:
        return self._bare(self._opened[0][1:].split()[0].rstrip("/>")) if self._opened else ""

    def _feed(self, inside: str) -> str:
        names = [tag[1:].split()[0].rstrip("/>") for tag in self._opened]
        closing = "".join(f"</{name}>" for name in reversed(names))
        return "".join((*self._opened, inside, closing))

    @staticmethod
    def _bare(name: str) -> str:
        return name.rpartition(":")[2].lower()
