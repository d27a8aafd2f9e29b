"""Markdown, read as HTML by a parser of CommonMark."""

import re
from collections.abc import Iterator
from itertools import pairwise

import pyromark
from pyromark import Options

OPTIONS = (
    Options.ENABLE_TABLES
    | Options.ENABLE_STRIKETHROUGH
    | Options.ENABLE_FOOTNOTES
    | Options.ENABLE_MATH
)
_FRONT_MATTER = re.compile(r"---\n((?:\w[^\n:]*:[^\n]*\n|[ \t#-][^\n]*\n)+?)---(?:\n|\Z)")
r"""What a file says about itself before it begins: '---\ntitle: x\n---\n'."""
_DEFINITION = re.compile(r"^[ >\t]*(?:[*+-] +)?(\[([^^\[\]\n][^\[\]\n]*)\]: *(\S+))", re.MULTILINE)
"""What may be the target of links by reference: '[1]: https://x.y'."""
_TILDE = re.compile(r"(?<![~\\])~(?!~)")
"""A tilde by itself: '~5 %'."""
_DUNDER = re.compile(r"(?<![\w\\])__[a-z0-9]+(?:_[a-z0-9]+)*__(?!\w)")
"""A name that Python gives: '__init__'."""
_EXACT = {
    "CodeBlock",
    "Code",
    "InlineMath",
    "DisplayMath",
    "Html",
    "InlineHtml",
    "Autolink",
    "Email",
}
_ADDRESS = re.compile(r"<?(?:[a-z][a-z0-9+.-]*:|www\.|#)", re.IGNORECASE)
"""A target that cannot be meant as a word: 'https://x.y'."""


def markdown_to_html(text: str) -> str:
    """Read a whole text: with what it says about itself as code, and no word taken for a mark."""
    matter = _FRONT_MATTER.match(text)
    if matter:
        text = f"```yaml\n{matter[1]}```\n\n{text[matter.end() :]}"
    return to_html(_words_escaped(text))


def to_html(text: str) -> str:
    """Read Markdown by the book."""
    return pyromark.html(text, options=OPTIONS)


def _words_escaped(text: str) -> str:
    r"""Text in which '[Bob]: Yes' is something that Bob said, unless a link refers to it, '~5' is a
    number and '__init__' a name. CommonMark shows nothing of such a line, and takes the others for
    marks.
    """
    data = text.encode().decode("latin-1")  # the parser counts bytes
    definitions = list(_DEFINITION.finditer(data))
    marks = [tilde.start() for tilde in _TILDE.finditer(data)]
    for dunder in _DUNDER.finditer(data):
        marks += [dunder.start(), dunder.start() + 1, dunder.end() - 2, dunder.end() - 1]
    if not definitions and not marks:
        return text
    used, exact = _labels_and_exact(text)
    exact = sorted([*exact, *(definition.span(2) for definition in definitions)])
    places = [*_said(definitions, used), *marks]
    pieces = [0, *_outside(sorted(places), exact, len(data)), len(data)]
    data = "\\".join(data[start:end] for start, end in pairwise(pieces))
    return data.encode("latin-1").decode()


def _said(definitions: "list[re.Match[str]]", used: set[str]) -> Iterator[int]:
    """Yield where a definition is what somebody says."""
    seen: set[str] = set()
    for definition in definitions:
        label = _folded(definition[2].encode("latin-1").decode("utf-8", "replace"))
        if not _ADDRESS.match(definition[3]) and (label not in used or label in seen):
            yield definition.start(1)
        seen.add(label)


def _outside(places: list[int], ranges: list[tuple[int, int]], end: int) -> Iterator[int]:
    """Yield the places that are in none of the ranges; both in their order."""
    following = iter([*ranges, (end + 1, end + 1)])
    first, after = next(following)
    for place in places:
        while after <= place:
            first, after = next(following)
        if place < first:
            yield place


def _labels_and_exact(text: str) -> tuple[set[str], list[tuple[int, int]]]:
    """Labels that links refer to, and where a backslash would be seen, in bytes."""
    used: set[str] = set()
    exact: list[tuple[int, int]] = []
    for event, where in pyromark.events_with_range(text, options=OPTIONS):
        if not isinstance(event, dict):
            continue
        ((name, value),) = event.items()
        if name == "Start" and isinstance(value, dict):
            ((name, value),) = value.items()
            if name in {"Link", "Image"}:
                used.add(_folded(value["id"]))
                name = value["link_type"]
        if name in _EXACT and (not exact or where["start"] >= exact[-1][1]):
            exact.append((where["start"], where["end"]))
    return used, exact


def _folded(label: str) -> str:
    return " ".join(label.split()).casefold()
