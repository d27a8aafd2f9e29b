"""Where a chunk stands: title and headings above it, or file, class and function around it.

A chunk is embedded together with this, so a passage can be found by a word that only its heading
has, and a part of a table by its first row. What stands inside of a chunk is not in its context.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from flows.text.chunk import Span

SEPARATOR: Final = " > "
MAX_CHARACTERS: Final = 96
"""Of a context; the outermost of its parts go first. The model reads a text of limited length."""

_HEADING = re.compile(r"(#{1,6})[ \t]+\S")
"""The begin of a heading: '## Usage'."""
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
"""The begin or the end of code in prose: '```python'."""
_DEFINITION = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|async|abstract|final|sealed|"
    r"pub(?:\([a-z]+\))?|override|virtual|inline|unsafe|extern|const|open|data|partial)[ \t]+)*"
    r"(class|def|function|func|fun|fn|struct|impl|interface|trait|enum|module|namespace)"
    r"[ \t]+(?:\([^()\n]{0,80}\)[ \t]*)?([^\W\d][\w$]*(?:(?:\.|::)[\w$]+)*)"
)
"""A definition, in many languages: 'async def search(query):'."""
_CLOSING: Final = (")", "]", "{")
_COMMENT: Final = ("#", "//", "/*", "*", "--")
"""Begins of lines that do not end the definition above them, though they are not indented. A
comment may stand above the next one: of a chunk that begins with it, the line below decides."""


def contexts(text: str, spans: Sequence[Span], outer: Sequence[str], code: bool) -> list[str]:
    """The context of each chunk of a section.

    :param spans: of the chunks, in their order
    :param outer: the parts that all of them have, such as a title, or the path of the file
    :param code: whether the text is source code
    :returns: parts from the outermost to the innermost, joined; empty for none
    """
    stacks = _definitions(text, spans) if code else _headings(text, spans)
    return [_joined([*outer, *parts]) for parts in stacks]


def _joined(parts: Sequence[str]) -> str:
    kept: list[str] = []
    left = MAX_CHARACTERS
    for part in reversed(parts):
        left -= len(part) + len(SEPARATOR) * bool(kept)
        if left < 0 and kept:
            break
        kept.insert(0, part[:MAX_CHARACTERS].strip())
    return SEPARATOR.join(kept)


def _headings(text: str, spans: Sequence[Span]) -> Iterator[list[str]]:
    above: list[tuple[int, str]] = []
    fence = head = ""
    lines = _lines(text)
    at, line = next(lines)
    for span in spans:
        while at < span.start:
            if mark := _FENCE.match(line):
                fence = _fence_after(fence, mark[1], line)
            elif not fence and (heading := _HEADING.match(line)):
                level = len(heading[1])
                above = [one for one in above if one[0] < level]
                above.append((level, line.strip().strip("#").strip()))
            row = not fence and line.startswith("|")
            head = (head or line) if row else ""
            at, line = next(lines)
        # The heading with which a chunk begins ends those of its level and below.
        first = _HEADING.match(line) if at == span.start and not fence else None
        deepest = len(first[1]) if first else 7
        stands = [title for level, title in above if level < deepest]
        yield [*stands, _cells(head)] if head and text[span.start] == "|" else stands


def _cells(head: str) -> str:
    """The first row of a table, which a part of the table from further down goes without."""
    return ", ".join(cell.strip() for cell in head.strip().strip("|").split(" | "))


def _fence_after(fence: str, mark: str, line: str) -> str:
    """The fence that is open after a line that begins with one."""
    if not fence:
        return mark
    closes = mark[0] == fence[0] and len(mark) >= len(fence) and line.strip() == mark
    return "" if closes else fence


def _definitions(text: str, spans: Sequence[Span]) -> Iterator[list[str]]:
    around: list[tuple[int, str]] = []
    lines = _lines(text)
    at, line = next(lines)
    for span in spans:
        while at < span.start:
            around = _still_around(around, line)
            if found := _DEFINITION.match(line.lstrip()):
                around.append((_indent(line), f"{found[1]} {found[2]}"))
            at, line = next(lines)
        whole_line = span.start == 0 or text[span.start - 1] == "\n"
        first = _deciding(text[span.start : span.end]) if whole_line else ""
        yield [name for _, name in _still_around(around, first)]


def _deciding(chunk: str) -> str:
    """The first line that says how deep a chunk is."""
    lines = (line for line in chunk.split("\n") if line.strip())
    return next((line for line in lines if not line.lstrip().startswith(_COMMENT)), "")


def _still_around(around: list[tuple[int, str]], line: str) -> list[tuple[int, str]]:
    """The definitions that a line does not end."""
    bare = line.lstrip()
    if not bare or bare.startswith((*_CLOSING, *_COMMENT)):
        return around
    indent = _indent(line)
    return [one for one in around if one[0] < indent]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line after the offset of its begin, and an end that is never reached."""
    at = 0
    for line in text.split("\n"):
        yield at, line
        at += len(line) + 1
    while True:
        yield len(text) + 1, ""
