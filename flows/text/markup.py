"""HTML as blocks, read by a parser of HTML5."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from flows.text.blocks import (
    Block,
    Blocks,
    Code,
    Form,
    Heading,
    Items,
    Note,
    Paragraph,
    Piece,
    Quote,
    Table,
)
from flows.text.characters import plain_characters, plain_whitespace
from flows.text.exact import exact_text, language_of
from flows.text.lines import one_line, paragraphs
from flows.text.tags import (
    DEEPEST,
    DIVIDING,
    SKIPPED,
    TooDeepError,
    bounded,
    without_tags,
    words_escaped,
)

_SPACE = re.compile(r"[ \t\n\r\f]+")
r"""White space, which HTML shows as one space: ' \n '."""
_EMPTY_START = re.compile(r"\A(?:[ \t]*\n)+")
r"""Empty lines before the first line of code: ' \n\nx = 1'."""
_TRIMMINGS = re.compile(r"(?:st|nd|rd|th|tm|sm|er|e|®|©|™)?", re.IGNORECASE)
"""What is raised for its looks alone: 'th'."""


def html_to_blocks(text: str, *, lines: bool = False) -> Blocks:
    """Read HTML.

    :param lines: whether a line break in the text is one, as in Markdown; in HTML it is a space
    :returns: its blocks; where it is nested too deeply for the parser, its words as paragraphs
    """
    try:
        builder = _Builder(lines)
        builder.walk(LexborHTMLParser(bounded(words_escaped(text))).root, 0)  # type: ignore[arg-type]  # a document has one
        return builder.finish()
    except TooDeepError:
        parts = plain_whitespace(plain_characters(without_tags(text))).split("\n\n")
        return [Paragraph(((Form.TEXT, part),)) for part in parts if part]


@dataclass
class _Builder:
    """Collects the blocks of an element; what stands in none of its own becomes paragraphs."""

    lines: bool
    blocks: list[Block] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def walk(self, node: LexborNode, depth: int) -> None:
        """Add all that is in an element."""
        if depth > DEEPEST:
            raise TooDeepError
        child = node.first_child
        while child is not None:
            self._add(child, depth + 1)
            child = child.next

    def finish(self) -> Blocks:
        """Return the blocks."""
        self._end_paragraph()
        return self.blocks

    def _add(self, node: LexborNode, depth: int) -> None:
        tag = node.tag or ""
        if tag == "-text":
            text = node.text_content or ""
            self.pieces.append((Form.TEXT, text if self.lines else _SPACE.sub(" ", text)))
        elif tag in SKIPPED:
            return
        elif tag in DIVIDING:
            self._end_paragraph()
            self.walk(node, depth)
            self._end_paragraph()
        elif tag in _READ:
            _READ[tag](self, node, depth)
        else:
            self.walk(node, depth)

    def _inside(self, node: LexborNode, depth: int) -> Blocks:
        builder = _Builder(self.lines)
        builder.walk(node, depth)
        return builder.finish()

    def _own_block(self, block: Block | None) -> None:
        self._end_paragraph()
        if block is not None:
            self.blocks.append(block)

    def _end_paragraph(self) -> None:
        self.blocks += [Paragraph(line) for line in paragraphs(self.pieces)]
        self.pieces = []

    def add_heading(self, node: LexborNode, depth: int) -> None:
        self._end_paragraph()
        for block in self._inside(node, depth):
            if isinstance(block, Paragraph):
                block = Heading(int(str(node.tag)[1]), block.line)  # noqa: PLW2901
            self.blocks.append(block)

    def add_quote(self, node: LexborNode, depth: int) -> None:
        blocks = self._inside(node, depth)
        self._own_block(Quote(blocks) if blocks else None)

    def add_list(self, node: LexborNode, depth: int) -> None:
        self._end_paragraph()
        items: list[Blocks] = []
        child = node.first_child
        while child is not None:
            if child.tag == "li":
                items.append(self._inside(child, depth + 1))
            elif items:  # badly written: it belongs to an item
                items[-1] = [*items[-1], *self._single(child, depth)]
            else:
                self.blocks += self._single(child, depth)
            child = child.next
        if node.tag != "ol":  # its numbers may be meant
            items = [item for item in items if item]
        start = _number(node.attributes.get("start")) if node.tag == "ol" else None
        self._own_block(Items(tuple(items), start) if items else None)

    def _single(self, node: LexborNode, depth: int) -> Blocks:
        builder = _Builder(self.lines)
        builder._add(node, depth)
        return builder.finish()

    def add_table(self, node: LexborNode, depth: int) -> None:
        self._end_paragraph()
        rows: list[list[Blocks]] = []
        for part in _rows(node):
            if part.tag == "tr":
                rows.append([self._inside(cell, depth + 3) for cell in _elements(part)])
            else:
                self.blocks += self._single(part, depth)
        rows = [row for row in rows if any(row)]
        self.blocks += _table_of(rows)

    def add_code_block(self, node: LexborNode, depth: int) -> None:
        child = _only_element(node)
        language = language_of(node) or (language_of(child) if child is not None else "")
        self._add_exact(exact_text(node, depth), language)

    def _add_exact(self, text: str, language: str = "") -> None:
        text = _EMPTY_START.sub("", text).rstrip()
        self._own_block(Code(text, language) if text else None)

    def add_code(self, node: LexborNode, depth: int) -> None:
        if node.css_first("p, div, ul, ol, pre, table, h1, h2, h3, blockquote") is not None:
            self.walk(node, depth)  # somebody forgot to close it
            return
        text = exact_text(node, depth)
        if node.css_first("br") is not None and "\n" in text.strip():
            self._add_exact(text)
        elif text.strip():
            space = (Form.TEXT, " ")
            self.pieces += [space] * text[0].isspace()
            self.pieces.append((Form.CODE, text))
            self.pieces += [space] * text[-1].isspace()
        else:
            self.pieces.append((Form.TEXT, " "))

    def add_line_break(self, _node: LexborNode, _depth: int) -> None:
        self.pieces.append((Form.TEXT, "\n"))

    def add_image(self, node: LexborNode, _depth: int) -> None:
        self.pieces.append((Form.TEXT, _SPACE.sub(" ", node.attributes.get("alt") or "")))

    def add_raised(self, node: LexborNode, depth: int) -> None:
        text = node.text()
        label = node.css_first("a[href]")
        if node.attributes.get("class") == "footnote-reference" and label is not None:
            self.pieces.append((Form.NOTE, (label.attributes.get("href") or "#")[1:]))
            return
        before = self.pieces[-1][1] if self.pieces else ""
        if before[-1:].isalnum() and not _TRIMMINGS.fullmatch(text.strip()):
            self.pieces.append((Form.TEXT, "^" if node.tag == "sup" else "_"))
        self.walk(node, depth)

    def add_span(self, node: LexborNode, depth: int) -> None:
        name = node.attributes.get("class") or ""
        if name == "katex-html":  # the same formula again, drawn
            return
        form = _FORMULAS.get(name)
        text = node.text() if form else ""
        if form is None:
            self.walk(node, depth)
        elif text.strip():
            self.pieces.append((form, text))
        else:
            self.pieces.append((Form.TEXT, "$$" if form is Form.FORMULA else "$$$$"))

    def add_formula(self, node: LexborNode, depth: int) -> None:
        tex = node.css_first('annotation[encoding="application/x-tex"]')
        if tex is None:
            self.walk(node, depth)
        else:
            self.pieces.append((Form.FORMULA, " ".join(tex.text().split())))

    def add_div(self, node: LexborNode, depth: int) -> None:
        self._end_paragraph()
        if node.attributes.get("class") != "footnote-definition":
            self.walk(node, depth)
            self._end_paragraph()
            return
        label = node.first_child
        if label is not None and label.tag == "sup":
            label.decompose()
        blocks = self._inside(node, depth)
        self._own_block(Note(node.attributes.get("id") or "", blocks) if blocks else None)


def _elements(node: LexborNode) -> list[LexborNode]:
    found = []
    child = node.first_child
    while child is not None:
        if child.is_element_node:
            found.append(child)
        child = child.next
    return found


def _only_element(node: LexborNode) -> LexborNode | None:
    found = _elements(node)
    return found[0] if len(found) == 1 else None


def _rows(table: LexborNode) -> list[LexborNode]:
    """Return the rows of a table, and what else is in it."""
    found = []
    for part in _elements(table):
        found += _elements(part) if part.tag in {"thead", "tbody", "tfoot"} else [part]
    return [part for part in found if part.tag not in {"colgroup", "col"}]


def _table_of(rows: list[list[Blocks]]) -> list[Block]:
    """Return a table of cells that are lines, else the blocks of the cells, one after the other."""
    cells = [cell for row in rows for cell in row]
    if len(cells) < 2 or not all(isinstance(b, Paragraph) for cell in cells for b in cell):
        return [block for cell in cells for block in cell]
    return [Table(tuple(tuple(one_line(cell) for cell in row) for row in rows))]


def _number(text: str | None) -> int:
    try:
        number = int(text or "1")
    except ValueError:
        return 1
    return number if 0 <= number < 10**8 else 1


_FORMULAS = {"math math-inline": Form.FORMULA, "math math-display": Form.DISPLAY}
_READ: dict[str, Callable[[_Builder, LexborNode, int], None]] = {
    **dict.fromkeys(["h1", "h2", "h3", "h4", "h5", "h6"], _Builder.add_heading),
    **dict.fromkeys(["ul", "ol", "menu"], _Builder.add_list),
    **dict.fromkeys(["code", "tt", "samp"], _Builder.add_code),
    **dict.fromkeys(["sup", "sub"], _Builder.add_raised),
    **dict.fromkeys(["pre", "listing", "xmp", "plaintext"], _Builder.add_code_block),
    "blockquote": _Builder.add_quote,
    "table": _Builder.add_table,
    "br": _Builder.add_line_break,
    "math": _Builder.add_formula,
    "img": _Builder.add_image,
    "span": _Builder.add_span,
    "div": _Builder.add_div,
}
"""How an element is read that is not merely its content."""
