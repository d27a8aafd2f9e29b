"""Cutting a text into chunks whose boundaries survive edits elsewhere in it.

The method is content-defined chunking: where to cut is decided by what stands there, never by a
distance from the start. Each possible boundary has a rank, made of its place in the structure of
the text (a heading, a paragraph, a sentence, a word) and, among equals, of a checksum of the
characters that follow it. A boundary that outranks every other one within reach on both sides is
an *anchor*, and is cut. The text between two anchors is cut by itself, so an edit can only move
the boundaries of the stretch it touches.

The anchors are the local maxima of N. Bjørner, A. Blass and Y. Gurevich, "Content-dependent
chunking for differential compression, the local maximum approach" (2010); the bounds on the size
and the choice of the best boundary in a window are in the spirit of W. Xia et al., "FastCDC"
(USENIX ATC 2016). Both hash bytes; here the positions are tokens and the structure comes first.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol
from zlib import crc32

from tokenizers import Tokenizer

from flows.text.structure import (
    HARD,
    PUNCTUATION,
    WORD,
    Boundary,
    code_boundaries,
    prose_boundaries,
)

_PIECE = 1 << 14
"""Characters tokenised at a time, which bounds memory; large pieces are no faster."""
_LONGEST_TOKEN = 100
"""A longer stretch without a token start counts as tokens of four characters: WordPiece calls a
word of over 100 characters one unknown token, and a chunk of a megabyte serves nobody."""
_HASHED = 64
"""Characters after a boundary that make its checksum. Those before it do not count: then
text inserted in front of a boundary leaves it a boundary."""


@dataclass(frozen=True, slots=True)
class Span:
    """The place of a chunk in its text."""

    start: int
    """The offset of the first character."""

    end: int
    """The offset after the last character."""


class Splitter(Protocol):
    """A chunker, as far as the flow needs one."""

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """Cut the texts of one document: each with whether it is source code."""
        ...


class Chunker:
    """Cuts texts for one model.

    If a text has several chunks, most of them have between a quarter of `max_tokens` and all of it.
    The same text always gives the same chunks, in every process.

    :param tokenizer: of the embedding model; it is copied, and the copy neither truncates nor pads
    :param max_tokens: the most tokens of a chunk, counted on its own text without special tokens.
        Only a single character of more tokens exceeds it.
    :raises ValueError: `max_tokens` is below 1
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = 254) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}: a chunk holds one token at least")
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Here a word has the same tokens wherever it stands; elsewhere count every chunk again.
        self._context_free = type(self._tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"
        self._most = max_tokens
        self._least = max(1, max_tokens // 4)
        self._reach = max(1, max_tokens * 2 // 5)

    def split(self, text: str, *, code: bool = False) -> list[Span]:
        """Return the chunks of a text in order.

        :param text: prose as `clean_text` leaves it, or a file as it is
        :param code: whether it is source code: cut before definitions and keep indentation
        :returns: spans that do not overlap, are never blank, and together cover everything but
            white space
        """
        starts, seams = self._token_starts(text)
        structure = code_boundaries(text) if code else prose_boundaries(text)
        ranked = _Ranked(text, starts, structure, self._most)
        cuts = [0, *ranked.cuts(self._least, self._reach, self._most), len(text)]
        spans: list[Span] = []
        for start, end in pairwise(cuts):
            span = _trimmed(text, start, end, keep_indentation=code)
            if span.start < span.end:
                spans += self._fitting(text, span, starts, seams)
        return spans

    def split_all(self, texts: Sequence[tuple[str, bool]]) -> list[list[Span]]:
        """Cut the texts of one document: each with whether it is source code; see `split`."""
        return [self.split(text, code=code) for text, code in texts]

    def _token_starts(self, text: str) -> tuple["array[int]", list[int]]:
        """Return where each token starts, and the seams of pieces that may have cut a word."""
        starts = array("Q")
        seams: list[int] = []
        last = begin = 0
        while begin < len(text):
            end = _piece_end(text, begin)
            if _within_word(text, end):
                seams.append(end)
            for start, _ in self._tokenizer.encode(
                text[begin:end], add_special_tokens=False
            ).offsets:
                position = max(last, begin + start)
                if position - last > _LONGEST_TOKEN:
                    starts.extend(range(last + 4, position, 4))
                starts.append(position)
                last = position
            begin = end
        if len(text) - last > _LONGEST_TOKEN:
            starts.extend(range(last + 4, len(text), 4))
        return starts, seams

    def _fitting(
        self, text: str, span: Span, starts: "array[int]", seams: list[int]
    ) -> Iterator[Span]:
        """Yield the span, or its parts if by itself it has more tokens than it had in the text."""
        pending = [span]
        while pending:
            span = pending.pop()
            first = bisect_right(starts, span.start)
            after = bisect_left(starts, span.end)
            doubtful = (
                not self._context_free
                or _within_word(text, span.start)
                or _within_word(text, span.end)
                or bisect_left(seams, span.start) < bisect_left(seams, span.end)
            )
            if span.end - span.start == 1 or not doubtful or self._fits(text, span):
                yield span
                continue
            middle = starts[(first + after) // 2] if first < after else 0
            if not span.start < middle < span.end:
                middle = (span.start + span.end) // 2
            halves = _trimmed(text, span.start, middle), _trimmed(text, middle, span.end)
            pending += [half for half in reversed(halves) if half.start < half.end]

    def _fits(self, text: str, span: Span) -> bool:
        own = self._tokenizer.encode(text[span.start : span.end], add_special_tokens=False)
        return len(own.ids) <= self._most


class _Ranked:
    """The possible boundaries of a text: position, number of tokens before it, rank."""

    def __init__(
        self, text: str, starts: "array[int]", structure: Iterator[Boundary], most: int
    ) -> None:
        self._text = text
        self._starts = starts
        self._positions = array("Q")
        self._tokens = array("Q")
        self._ranks = array("Q")
        before = 0
        for position, level in structure:
            tokens = bisect_left(starts, position, before)
            if tokens - before > most:
                self._add_within(before, tokens)
            self._add(position, tokens, level)
            before = tokens
        if len(starts) - before > most:
            self._add_within(before, len(starts))

    def _add(self, position: int, tokens: int, level: int) -> None:
        if not 0 < tokens < len(self._starts):
            return
        following = self._text[position : position + _HASHED]
        rank = level << 32 | crc32(following.encode("utf-8", "surrogatepass"))
        if self._tokens and self._tokens[-1] == tokens:
            if self._ranks[-1] >= rank:
                return
            self._positions.pop()
            self._tokens.pop()
            self._ranks.pop()
        self._positions.append(position)
        self._tokens.append(tokens)
        self._ranks.append(rank)

    def _add_within(self, first: int, last: int) -> None:
        """Add what is left to cut at in a stretch too long for a chunk: words, or less."""
        for tokens in range(first + 1, last):
            position = self._starts[tokens]
            if position > self._starts[tokens - 1] and not _joined(self._text, position):
                self._add(position, tokens, _fine_level(self._text, position))

    def cuts(self, least: int, reach: int, most: int) -> Iterator[int]:
        """Yield the positions to cut at, in order."""
        begin = 0
        for end in [*self._anchors(reach), len(self._tokens)]:
            yield from self._subdivided(begin, end, least, most)
            if end < len(self._tokens):
                yield self._positions[end]
            begin = end + 1

    def _anchors(self, reach: int) -> list[int]:
        """Return the boundaries that outrank all others within reach, both ends of the text too."""
        anchors: list[int] = []
        higher: list[int] = []  # those that nothing on their right has outranked so far
        for index, (tokens, rank) in enumerate(zip(self._tokens, self._ranks, strict=True)):
            while higher and self._ranks[higher[-1]] < rank:
                lower = higher.pop()
                left = self._tokens[higher[-1]] if higher else 0
                if min(self._tokens[lower] - left, tokens - self._tokens[lower]) > reach:
                    anchors.append(lower)
            higher.append(index)
        tokens = len(self._starts)
        while higher:
            lower = higher.pop()
            left = self._tokens[higher[-1]] if higher else 0
            if min(self._tokens[lower] - left, tokens - self._tokens[lower]) > reach:
                anchors.append(lower)
        return sorted(anchors)

    def _subdivided(self, begin: int, end: int, least: int, most: int) -> Iterator[int]:
        """Yield cuts between two anchors, from the left, each the best in its window."""
        first = self._tokens[begin - 1] if begin else 0
        last = self._tokens[end] if end < len(self._tokens) else len(self._starts)
        while last - first > most:
            low = least if last - first > 2 * most else max(least, last - first - most)
            window = range(
                bisect_left(self._tokens, first + low, begin, end),
                bisect_right(self._tokens, min(first + most, last - least), begin, end),
            )
            if window:
                cut = max(window, key=self._ranks.__getitem__)
            else:  # nothing of the right size: as much as goes in, or else the least possible
                cut = max(begin, bisect_right(self._tokens, first + most, begin, end) - 1)
                if cut >= end:
                    return
            yield self._positions[cut]
            first, begin = self._tokens[cut], cut + 1


_BLANK_LINES = re.compile(r"\s*\n")
r"""Lines without a word, up to the first that has one: '\n  \n    x = 1'."""


def _piece_end(text: str, begin: int) -> int:
    """Return where to end a piece: after white space or, failing that, anywhere."""
    limit = begin + _PIECE
    if limit >= len(text):
        return len(text)
    for space in "\n", " ":
        found = text.rfind(space, begin, limit)
        if found >= 0:
            return found + 1
    return limit


def _within_word(text: str, position: int) -> bool:
    """Tell whether a cut here might change the tokens beside it."""
    if not 0 < position < len(text):
        return False
    return not (text[position - 1].isspace() or text[position].isspace())


def _fine_level(text: str, position: int) -> int:
    if text[position - 1].isspace():
        return WORD
    return HARD if text[position - 1].isalnum() and text[position].isalnum() else PUNCTUATION


def _joined(text: str, position: int) -> bool:
    """Tell whether the character here is written onto the one before."""
    character = text[position]
    if character.isascii():
        return character == "\n" and text[position - 1] == "\r"
    return (
        unicodedata.category(character).startswith("M")
        or "\u200d" in (character, text[position - 1])
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _trimmed(text: str, start: int, end: int, keep_indentation: bool = True) -> Span:
    stripped = text[start:end].rstrip()
    end = start + len(stripped)
    if keep_indentation:
        blank = _BLANK_LINES.match(text, start, end)
        return Span(blank.end() if blank else start, end)
    return Span(end - len(stripped.lstrip()), end)
