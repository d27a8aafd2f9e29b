"""Markdown, read as HTML by a parser of CommonMark."""

import re
from collections.abc import Iterator

import pyromark
from pyromark import Options

OPTIONS = (
    Options.ENABLE_TABLES
    | Options.ENABLE_STRIKETHROUGH
    | Options.ENABLE_FOOTNOTES
    | Options.ENABLE_MATH
)
_FAR = re.compile(r"^([ \t]{200})[ \t]+", re.MULTILINE)
"""Indentation for which the parser takes cubic time, and which nobody can see:
'                                                                      \
                                                                      \
                                                                      '."""
_FRONT_MATTER = re.compile(r"---\n((?:\w[^\n:]*:[^\n]*\n|[ \t#-][^\n]*\n)+?)---(?:\n|\Z)")
r"""What a file says about itself before it begins: '---\ntitle: x\n---\n'."""
_DEFINITION = re.compile(r"^[ >\t]*(?:[*+-] +)?(\[([^^\[\]\n][^\[\]\n]*)\]: *(\S+))", re.MULTILINE)
"""What may be the target of links by reference: '[1]: https://x.y'."""
_TILDE = re.compile(r"(?<![~\\])~(?!~)")
"""A tilde by itself: '~5 %'."""
_DUNDER = re.compile(r"(?<![\w\\])__[a-z0-9]+(?:_[a-z0-9]+)*__(?!\w)")
"""A name that Python gives: '__init__'."""
_DOCTEST = re.compile(r"^( {0,3})>>> [^\n]*(?:\n[^\n]*\S[^\n]*)*", re.MULTILINE)
"""An example of Python with what it prints: '>>> 1 + 1'."""
_TABLE_RULE = re.compile(r"^[ >\t|:]*-[-| :\t]*$", re.MULTILINE)
"""The line below the head of a table, or a line across the page: '|:--|--:|'."""
_PIPE = re.compile(r"(?<!\\)\|")
"""What stands between two cells: 'a | b'."""
_LAST_PIPE = re.compile(r"(?<!\\)\|\Z")
"""The end of a row: 'b |'."""
_Range = tuple[int, int]
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
    text = _FAR.sub(r"\1", text)
    matter = _FRONT_MATTER.match(text)
    if matter:
        text = f"```yaml\n{matter[1]}```\n\n{text[matter.end() :]}"
    return to_html(_words_escaped(_doctests_fenced(text)))


def to_html(text: str) -> str:
    """Read Markdown by the book."""
    return pyromark.html(text, options=OPTIONS)


def _doctests_fenced(text: str) -> str:
    """Text in which examples of Python, which CommonMark takes for quotes of quotes, are code."""
    if ">>> " not in text:
        return text
    data = text.encode().decode("latin-1")
    doctests = {test.start(): test for test in _DOCTEST.finditer(data) if "```" not in test[0]}
    _, exact, _ = _structure(text)
    pieces, done = [], 0
    for start in _outside(list(doctests), exact, len(data)):
        test = doctests[start]
        pieces += [data[done:start], f"{test[1]}```pycon\n{test[0]}\n{test[1]}```"]
        done = test.end()
    return "".join([*pieces, data[done:]]).encode("latin-1").decode()


def _words_escaped(text: str) -> str:
    r"""Text in which '[Bob]: Yes' is something that Bob said, unless a link refers to it, '~5' is a
    number, '__init__' a name, and a table has room for every cell. CommonMark shows nothing of such
    a line and of other cells, and takes the others for marks.
    """
    data = text.encode().decode("latin-1")  # the parser counts bytes
    definitions = list(_DEFINITION.finditer(data))
    marks = [tilde.start() for tilde in _TILDE.finditer(data)]
    for dunder in _DUNDER.finditer(data):
        marks += [dunder.start(), dunder.start() + 1, dunder.end() - 2, dunder.end() - 1]
    has_tables = "|" in data and bool(_TABLE_RULE.search(data))
    if not definitions and not marks and not has_tables:
        return text
    used, exact, tables = _structure(text)
    exact = sorted([*exact, *(definition.span(2) for definition in definitions)])
    places = sorted([*_said(definitions, used), *marks])
    edits = [(place, "\\") for place in _outside(places, exact, len(data))]
    edits += [edit for start, end in tables for edit in _widened(data[start:end], start)]
    pieces, done = [], 0
    for place, added in sorted(edits):
        pieces += [data[done:place], added]
        done = place
    return "".join([*pieces, data[done:]]).encode("latin-1").decode()


def _widened(table: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield what is to be added to the first two lines, so that they have all columns."""
    head, rule, *rows = table.split("\n")
    missing = max(map(_cells, rows), default=0) - _cells(head)
    end = start
    for line, cell in ((head, " |"), (rule, "-|")) if missing > 0 else ():
        end += len(line)
        yield end, ("" if line.rstrip().endswith("|") else "|") + cell * missing
        end += 1


def _cells(line: str) -> int:
    line = line.strip(" \t>")
    return len(_PIPE.findall(line)) + 1 - line.startswith("|") - bool(_LAST_PIPE.search(line))


def _said(definitions: "list[re.Match[str]]", used: set[str]) -> Iterator[int]:
    """Yield where a definition is what somebody says."""
    seen: set[str] = set()
    for definition in definitions:
        label = _folded(definition[2].encode("latin-1").decode("utf-8", "replace"))
        if not _ADDRESS.match(definition[3]) and (label not in used or label in seen):
            yield definition.start(1)
        seen.add(label)


def _outside(places: list[int], ranges: list[_Range], end: int) -> Iterator[int]:
    """Yield the places that are in none of the ranges; both in their order."""
    following = iter([*ranges, (end + 1, end + 1)])
    first, after = next(following)
    for place in places:
        while after <= place:
            first, after = next(following)
        if place < first:
            yield place


def _structure(text: str) -> tuple[set[str], list[_Range], list[_Range]]:
    """Labels that links refer to; where a backslash would be seen; and where tables are."""
    used: set[str] = set()
    exact: list[_Range] = []
    tables: list[_Range] = []
    for event, where in pyromark.events_with_range(text, options=OPTIONS):
        if not isinstance(event, dict):
            continue
        ((name, value),) = event.items()
        if name == "Start" and isinstance(value, dict):
            ((name, value),) = value.items()
            if name in {"Link", "Image"}:
                used.add(_folded(value["id"]))
                name = value["link_type"]
            elif name == "Table":
                tables.append((where["start"], where["end"]))
        if name in _EXACT and (not exact or where["start"] >= exact[-1][1]):
            exact.append((where["start"], where["end"]))
    return used, exact, tables


def _folded(label: str) -> str:
    return " ".join(label.split()).casefold()
