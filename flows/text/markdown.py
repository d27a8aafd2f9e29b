"""Markdown and links."""

import re

_DUNDERS = (
    "init main name file doc all new call str repr enter exit iter next len eq hash dict slots"
    " class getattr setattr getitem setitem delitem contains add bool del import"
    " future version pycache"
).replace(" ", "|")
_IN_PARAGRAPH = r"|\n(?!\n)"
_TARGET = (
    r"""\((?:<[^<>\n]*>|[^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s(?:"[^"\n]*"|'[^'\n]*'))?\s?\)"""
)
_URL_CHARACTER = r"[A-Za-z0-9\u00c0-\u1fff\u2100-\u2bff_.~:/?#@!$&*+,;=%'-]"
_URL_GROUP = rf"\({_URL_CHARACTER}*\)"
_URL = re.compile(
    r"(?P<space> ?)(?P<open>[(\[<]?)(?<![A-Za-z0-9_])(?:(?:https?|ftp)://|www\.)"
    rf"(?:{_URL_CHARACTER}|{_URL_GROUP})*(?:[A-Za-z0-9\u00c0-\u1fff\u2100-\u2bff/#@$&+=%-]|{_URL_GROUP})"
    r"(?P<close>[)\]>]?)",
    re.IGNORECASE,
)
"""A link that stands in the text, without the full stop after it: 'see (https://x.y/z).'."""
_REFERENCE = re.compile(r"^\[([^\[\]\n^]+)\]: ?\S[^\n]*$", re.MULTILINE)
"""Where a reference leads to: '[1]: https://x.y'."""
_REFERENCE_LINK = re.compile(r"(?<![\w\])])!?\[([^\[\]\n]+)\] ?\[([^\[\]\n]*)\]")
"""A link by reference: 'see [the page][1]'."""
_TABLE = re.compile(r"(?:^[^\n|]*\|[^\n]*(?:\n|\Z))+", re.MULTILINE)
r"""Lines with pipes, which may be a table: '| a | b |\n|---|---|'."""
_TABLE_RULE = re.compile(r"[|: ]*-[|: -]*")
"""The line below the head of a table: '|:--|--:|'."""
_IMAGE = re.compile(rf"!\[([^\[\]\n]*)\]{_TARGET}")
"""An image, which leaves its description: '![a cat](cat.png)'."""
_LINK = re.compile(
    rf"(?:(?<![A-Za-z0-9_])|(?=!?\[[^\[\]\n]*\]\((?:https?:|[/#.])))"
    rf"!?\[((?:[^\[\]\n]|\[[^\[\]\n]*\]{_IN_PARAGRAPH})*)\]{_TARGET}"
)
"""A link, which leaves its text: '[the page](https://x.y "title")'; no call: 'array[i](x)'."""
_QUOTE = re.compile(r"^(?:> )+|^>+$", re.MULTILINE)
"""The mark of a quotation: '> text'."""
_HEADING = re.compile(r"^(?:#{1,6} )+(.*?)(?: #+)?$|^#{1,6}$", re.MULTILINE)
"""A heading, closed or not: '## Usage ##'."""
_RULE = re.compile(r"^([-*_=])(?: ?\1){2,}$", re.MULTILINE)
"""A line across the page, or below a title: '* * *', '===='."""
_STAR_ITEM = re.compile(r"^\* ", re.MULTILINE)
"""An item of a list, by the mark that also stands for emphasis: '* item'."""
_STAR_EMPHASIS = re.compile(
    rf"(?<![0-9A-Za-z*\\])(\*{{1,3}})(?=[^\s*])((?:[^*\n]{_IN_PARAGRAPH})*)(?<=[^\s*])\1"
    r"(?:(?<=\*\*)|(?![0-9A-Za-z]))(?!\*)"
)
"""Emphasis by stars: 'a **bold** word'; no product: '2*3*4'."""
_INTRAWORD = r"(?<=[^\W_])_+(?=[^\W_])"
_UNDERSCORE_EMPHASIS = re.compile(
    rf"(?<![\w\\])(_{{1,3}})(?!(?:{_DUNDERS})__(?!\w))(?=[^\s_])"
    rf"((?:[^_\n]|{_INTRAWORD}{_IN_PARAGRAPH})*)(?<=[^\s_])\1(?!\w)"
)
"""Emphasis by underscores: 'a _slanted_ word'; no name: 'snake_case', '__init__'."""
_STRIKETHROUGH = re.compile(r"~~(?=[^\s~])([^~\n]*)(?<=[^\s~])~~(?!~)")
"""Text that is struck through: '~~wrong~~'."""
_ESCAPED_UNDERSCORE = re.compile(r"(?<=\w)\\_(?=\w)")
r"""An underscore within a word, escaped: 'snake\\_case'."""
_ESCAPED_NUMBER = re.compile(r"^([0-9]+)\\\.", re.MULTILINE)
r"""A number at the start of a line that begins no list: '1984\\. A good year.'."""
_MARKDOWN: list[tuple["re.Pattern[str]", str]] = [
    (_IMAGE, r"\1"),
    (_LINK, r"\1"),
    (_QUOTE, ""),
    (_HEADING, r"\n\n\1\n\n"),
    (_RULE, "\n"),
    (_STAR_ITEM, "- "),
    (_STAR_EMPHASIS, r"\2"),
    (_UNDERSCORE_EMPHASIS, r"\2"),
    (_STRIKETHROUGH, r"\1"),
    (_ESCAPED_UNDERSCORE, "_"),
    (_ESCAPED_NUMBER, r"\1."),
]
"""The marks that are taken away, in this order, and the text that takes their place."""


def strip_markdown(text: str) -> str:
    """Text without the marks of headings, emphasis, quotes, tables, rules, images and links."""
    references = set(_REFERENCE.findall(text))
    if references:
        text = _REFERENCE.sub("", text)
        text = _REFERENCE_LINK.sub(
            lambda match: match[1] if (match[2] or match[1]) in references else match[0], text
        )
    text = _TABLE.sub(_without_pipes, text)
    for pattern, new in _MARKDOWN:
        text = pattern.sub(new, text)
    return text


def _without_pipes(table: "re.Match[str]") -> str:
    """Return a table as lines of its cells; a paragraph that merely contains pipes as it is."""
    lines = table[0].rstrip("\n").split("\n")
    rules = [bool(_TABLE_RULE.fullmatch(line)) for line in lines]
    if not any(rules) and not all(line[0] == line[-1] == "|" != line for line in lines):
        return table[0]
    rows = (line.split("|") for line, rule in zip(lines, rules, strict=True) if not rule)
    cells = (filter(None, (cell.strip() for cell in row)) for row in rows)
    return "".join(f"{', '.join(row)}\n" for row in cells)


def strip_links(text: str) -> str:
    """Text without URLs, and without the brackets that held nothing else."""
    return _URL.sub(_without_url, text)


def _without_url(url: "re.Match[str]") -> str:
    brackets = url["open"] + url["close"]
    if len(brackets) == 2:
        brackets = ""
    follows = url.string[url.end() : url.end() + 1]
    return brackets if not brackets and follows in ".,;:!?)\n" else url["space"] + brackets
