"""Blocks as text: one form for each, which reads well and is read back as the same blocks."""

import re
from collections.abc import Iterator

from flows.text.blocks import (
    Block,
    Blocks,
    Code,
    Form,
    Heading,
    Items,
    Line,
    Note,
    Paragraph,
    Piece,
    Quote,
    Table,
)
from flows.text.markdown import to_html
from flows.text.markup import html_to_blocks

_DEEPEST = 8
"""Lists and quotes within one another that are shown as such."""

_SPECIAL = re.compile(
    r"[\\`*\[<$~|]|&(?=#?[A-Za-z0-9]+;)|(?<![^\W_])_|_(?![^\W_])|^(?:[#>+=-]|[0-9]{1,9}[.)])|#$",
    re.MULTILINE,
)
"""What may be read as a mark: '*'; a text without it needs no second look."""
_MARK = re.compile(
    r"[\\`*\[\]<$~|]|(?<![^\W_])_|_(?![^\W_])|&(?=#?[A-Za-z0-9]+;)|^[#>+=-]|#$", re.MULTILINE
)
"""A character that a backslash makes one of its own: '*'."""
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""What another program would take for a tag: 'List<int>'."""
_NUMBER = re.compile(r"^([0-9]{1,9})([.)])(?=\s|$)", re.MULTILINE)
"""A number that would begin a list: '1984. A good year.'."""
_TICKS = re.compile("`+")
"""Backquotes, than which the marks around them must be longer: '````'."""
_BLANK_LINE = re.compile(r"^[ \t]+$", re.MULTILINE)
"""A line of white space: '   '."""
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}")
"""The name of a language: 'c++'."""


def to_text(blocks: Blocks) -> str:
    """Write blocks as Markdown: no marks but those that the blocks need to be told apart."""
    return _joined(blocks, 0)


def fenced(code: str, language: str = "") -> str:
    """Write code between fences; a line of white space is an empty one."""
    code = _BLANK_LINE.sub("", code)
    ticks = "`" * max(3, 1 + max(map(len, _TICKS.findall(code)), default=0))
    return f"{ticks}{language if _LANGUAGE.fullmatch(language) else ''}\n{code}\n{ticks}"


def _joined(blocks: Blocks, depth: int) -> str:
    return "\n\n".join(filter(None, _each(blocks, depth)))


def _each(blocks: Blocks, depth: int) -> Iterator[str]:
    before: Block | None = None
    other = False
    for block in blocks:
        if isinstance(block, Items):
            # Two lists in a row are told apart by their marks.
            follows = isinstance(before, Items) and (before.start is None) == (block.start is None)
            other = follows and not other
            yield _items(block, depth, other)
        else:
            yield _written(block, depth)
        before = block


def _written(block: Block, depth: int) -> str:
    match block:
        case Paragraph():
            return _line(block.line)
        case Heading():
            marks = "#" * block.level
            return f"{marks} {_line(block.line, single=True)}"
        case Code():
            return fenced(block.text, block.language)
        case Table():
            return _table(block)
        case Quote():
            inside = _joined(block.blocks, depth + 1)
            return (
                inside
                if depth >= _DEEPEST
                else _prefixed(inside, "> ", "> ").replace("> \n", ">\n")
            )
        case Note():
            return _prefixed(_joined(block.blocks, depth + 1), f"[^{block.label}]: ", "    ")
    raise TypeError(block)


def _items(block: Items, depth: int, other: bool) -> str:
    tight = all(map(_is_short, block.items))
    written = []
    for number, item in enumerate(block.items, block.start or 0):
        inside = [text for text in _each(item, depth + 1) if text]
        mark = (
            ("*" if other else "-") if block.start is None else f"{number}{')' if other else '.'}"
        )
        text = ("\n" if tight else "\n\n").join(inside)
        if depth < _DEEPEST:
            text = _prefixed(text, f"{mark} ", " " * (len(mark) + 1)).rstrip()
        written.append(text)
    return ("\n" if tight and depth < _DEEPEST else "\n\n").join(filter(None, written))


def _is_short(item: Blocks) -> bool:
    """Tell whether an item is a line, perhaps with a list below it that may follow a line."""
    if not item:
        return True
    first, *rest = item
    return isinstance(first, Paragraph) and (
        not rest or (len(rest) == 1 and isinstance(rest[0], Items) and _may_follow(rest[0]))
    )


def _may_follow(block: Items) -> bool:
    return bool(block.items[0]) and block.start in {None, 1}


def _prefixed(text: str, first: str, others: str) -> str:
    lines = text.split("\n")
    return "\n".join(
        [
            first + lines[0],
            *(others + line if line or others[0] == ">" else "" for line in lines[1:]),
        ]
    )


def _table(table: Table) -> str:
    width = max(map(len, table.rows))
    head, *body = (
        [*(_line(cell, single=True, cell=True) for cell in row), *[""] * (width - len(row))]
        for row in table.rows
    )
    rows = [head, ["---"] * width, *body]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows)


def _line(line: Line, *, single: bool = False, cell: bool = False) -> str:
    """Write a line, with as many backslashes as it needs to be read back."""
    if single:
        line = tuple((form, text.replace("\n", " ")) for form, text in line)
    raw = _raw(line)
    text = raw
    if _SPECIAL.search(raw):
        for write in (_tags_escaped, _escaped):
            text = "".join(
                write(piece[1]) if piece[0] is Form.TEXT else _raw_piece(piece) for piece in line
            )
            if _reads_as(text, line, single):
                break
        else:
            text = _escaped(raw)
    return text.replace("|", r"\|") if cell else text


def _tags_escaped(text: str) -> str:
    return _TAG.sub(r"\<", text)


def _raw(line: Line) -> str:
    return "".join(map(_raw_piece, line))


def _raw_piece(piece: Piece) -> str:
    form, text = piece
    if form is Form.CODE:
        ticks = "`" * (1 + max(map(len, _TICKS.findall(text)), default=0))
        space = " " if text[0] == "`" or text[-1] == "`" else ""
        return f"{ticks}{space}{text}{space}{ticks}"
    return {Form.TEXT: "{}", Form.FORMULA: "${}$", Form.DISPLAY: "$${}$$", Form.NOTE: "[^{}]"}[
        form
    ].replace("{}", text)


def _reads_as(text: str, line: Line, single: bool) -> bool:
    blocks = html_to_blocks(to_html(f"# {text}" if single else text), lines=True)
    return (
        len(blocks) == 1
        and isinstance(blocks[0], Heading if single else Paragraph)
        and _raw(blocks[0].line) == _raw(line)
        and _codes(blocks[0].line) == _codes(line)
    )


def _codes(line: Line) -> list[str]:
    return [text for form, text in line if form is Form.CODE]


def _escaped(text: str) -> str:
    return _NUMBER.sub(r"\1\\\2", _MARK.sub(r"\\\g<0>", text))
