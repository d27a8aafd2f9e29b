"""What a text is written in, decided once for each section.

1. A text that begins with a tag is HTML, unless it has a heading or a fence of Markdown and is no
   whole page.
2. A text with a fenced block is Markdown, unless a line begins with forty marks of lists.
3. A program, a patch, LaTeX, reStructuredText, and a text most lines of which are of code, of a log
   or of a chat, is plain.
4. A text with a mark of Markdown, a tag or an entity for each hundred lines is Markdown, which may
   contain HTML.
5. Everything else is plain.

Where the guess is wrong, marks stay or go; words do not.
"""

import html.entities
import re
from enum import Enum, auto

from flows.text.tags import tags


class Kind(Enum):
    """What a text is written in."""

    PLAIN = auto()
    MARKDOWN = auto()
    HTML = auto()


_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3})[^`\n]*$", re.MULTILINE)
"""The line above a block of code, and the one below it: '```py'."""
_HEADING = re.compile(r"^#{1,6} +\S", re.MULTILINE)
"""A heading: '## Usage'."""
_BLOCK_MARK = re.compile(
    r"^(?:#{1,6} +\S|\|?[ :]*-+[ :]*\|[-| :]*$|---\n\w[^\n:]*:)|^[^\s#].*\n(?:={3,}|-{3,})$",
    re.MULTILINE,
)
"""A heading, the rule of a table or what a file says about itself: '## Usage'."""
_MARK = re.compile(
    r"(?<!\w)!?\[[^\[\]\n]*\]\(\S|^\[[^^\[\]\n][^\[\]\n]*\]: *<?(?:https?:|/|#)"
    r"|(?<![\w*])\*{1,3}[^\s*][^*\n]*(?<=[^\s*])\*{1,3}(?![\w*])"
    r"|(?<!\w)_{1,3}(?![a-z0-9]+__(?!\w))[^\s_][^_\n]*(?<=[^\s_])_{1,3}(?!\w)"
    r"|~~[^\s~][^~\n]*~~|(?<!`)`[^`\n]+`(?!`)|<https?://",
    re.MULTILINE,
)
"""A link, emphasis or code within a sentence: 'a **bold** word'."""
_PROLOGUE = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^<>]*>", re.DOTALL)
"""What may stand in front of a page: '<!DOCTYPE html>'."""
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
"""A character by its name or number: '&amp;'."""
_FOREIGN = re.compile(
    r"^\.\. [\w-]+::|^diff --git |^@@ -[0-9]+(?:,[0-9]+)? \+[0-9]|^\.TH "
    r"|^\\(?:documentclass|section|begin)\b",
    re.MULTILINE,
)
"""A mark of reStructuredText, of a patch, of a manual or of LaTeX: '.. note::'."""
_DEEP = re.compile(r"^(?:[ \t]*(?:>|(?:[-+*]|[0-9]{1,9}[.)])(?=[ \t]))){40}", re.MULTILINE)
"""Lists within one another on one line, deeper than anybody writes; they would take quadratic time:
'- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - a'."""
_PLAIN_LINE = re.compile(
    r"(?!.*&\w+;$)(?:"
    r"(?:from [\w.]+ )?import [\w.*{]|(?:async )?def \w+\(|class \w+[\s:({]|@\w|return\b|#include\b"
    r"|(?:if|for|while|elif|with|try|except|else|finally)\b.*:$"
    r"|(?:const|let|var|int|void|static|public|private|func|fn|function|package|use) .*[;{(=)]$"
    r"|[\w.\[\]\"']+ ?[-+*/|&]?= ?\S|[\w.]+\(.*\)[;:]?$|.*[;{}]$|[}\])]|#!|>>> |\$ \w"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}:[0-9]{2}|[\w.-]+:(?: |$)"
    r"|\[[^^\[\]\n][^\[\]\n]*\](?![(\[])(?!: *(?:https?:|/|#)))"
)
"""A line of code, of a log or of a chat: '[Alice]: Yes'."""
_LINES_PER_MARK = 100


def kind_of(text: str) -> Kind:
    """Tell what a text is written in.

    :param text: in the form of `plain_text`
    """
    found = tags(text)
    if found and _is_html(text, found[0]):
        return Kind.HTML
    if _DEEP.search(text):
        return Kind.PLAIN
    if _is_fenced(text):
        return Kind.MARKDOWN
    if text.startswith("#!") or _FOREIGN.search(text) or _is_listing(text):
        return Kind.PLAIN
    return Kind.MARKDOWN if _is_marked(text, len(found)) else Kind.PLAIN


def _is_marked(text: str, marks: int) -> bool:
    """Tell whether there is a mark for each hundred lines: one in a long text is an accident."""
    for pattern in _BLOCK_MARK, _MARK:
        marks += sum(1 for _ in pattern.finditer(text))
    named = (entity[1] for entity in _ENTITY.finditer(text))
    marks += sum(name is None or f"{name};" in html.entities.html5 for name in named)
    return marks * _LINES_PER_MARK > text.count("\n")


def _is_html(text: str, first: "re.Match[str]") -> bool:
    if _PROLOGUE.sub("", text[: first.start()]).strip():
        return False
    page = first[1].lower() in {"html", "head", "body"}
    return page or not (_is_fenced(text) or _HEADING.search(text))


def _is_fenced(text: str) -> bool:
    return len(_FENCE.findall(text)) > 1


def _is_listing(text: str) -> bool:
    """Tell whether half of the lines end as those of programs, or more than half of the lines that
    begin at the margin are no prose.
    """
    lines = [line for line in text.split("\n") if line]
    if sum(line.endswith((";", "{", "}")) for line in lines) * 2 > len(lines):
        return True
    lines = [line for line in lines if line[0] not in " \t#"]
    return sum(map(bool, map(_PLAIN_LINE.match, lines))) * 2 > len(lines)
