"""The blocks of a text: what HTML and Markdown are read into, and canonical text is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Form(Enum):
    """How a piece of a line is to be read."""

    TEXT = auto()
    CODE = auto()
    FORMULA = auto()
    DISPLAY = auto()
    """A formula that is shown by itself."""
    NOTE = auto()
    """A reference to a footnote, by its label."""


Piece = tuple[Form, str]
Line = tuple[Piece, ...]
"""What stands in a paragraph, a heading or a cell."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines of text that belong together."""

    line: Line


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    level: int
    line: Line


@dataclass(frozen=True, slots=True)
class Code:
    """Code that keeps every character."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first row is the head."""

    rows: tuple[tuple[Line, ...], ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """Blocks that somebody else has written."""

    blocks: "Blocks"


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: "tuple[Blocks, ...]"
    start: int | None
    """The number of the first item; None for a list without numbers."""


@dataclass(frozen=True, slots=True)
class Note:
    """A footnote."""

    label: str
    blocks: "Blocks"


Block = Paragraph | Heading | Code | Table | Quote | Items | Note
Blocks = Sequence[Block]
