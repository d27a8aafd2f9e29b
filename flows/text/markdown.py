"""Markdown and links."""

import re
from collections.abc import Callable

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
_REFERENCE = re.compile(r"^\[([^\[\]\n^]+)\]: ?\S[^\n]*$", re.MULTILINE)
_REFERENCE_LINK = re.compile(r"(?<![\w\])])!?\[([^\[\]\n]+)\] ?\[([^\[\]\n]*)\]")
_TABLE = re.compile(r"(?:^[^\n|]*\|[^\n]*(?:\n|\Z))+", re.MULTILINE)
_TABLE_RULE = re.compile(r"[|: ]*-[|: -]*")
_IMAGE = re.compile(rf"!\[([^\[\]\n]*)\]{_TARGET}")
_INTRAWORD = r"(?<=[^\W_])_+(?=[^\W_])"
_MARKDOWN: list[tuple["re.Pattern[str]", str | Callable[["re.Match[str]"], str]]] = [
    (_IMAGE, r"\1"),
    (re.compile(rf"(?:(?<![A-Za-z0-9_])|(?=!?\[[^\[\]\n]*\]\((?:https?:|[/#.])))"
                rf"!?\[((?:[^\[\]\n]|\[[^\[\]\n]*\]{_IN_PARAGRAPH})*)\]{_TARGET}"), r"\1"),
    (re.compile(r"^(?:> )+|^>+$", re.MULTILINE), ""),
    (re.compile(r"^(?:#{1,6} )+(.*?)(?: #+)?$|^#{1,6}$", re.MULTILINE), r"\n\n\1\n\n"),
    (re.compile(r"^([-*_=])(?: ?\1){2,}$", re.MULTILINE), "\n"),
    (re.compile(r"^\* ", re.MULTILINE), "- "),
    (re.compile(rf"(?<![0-9A-Za-z*\\])(\*{{1,3}})(?=[^\s*])((?:[^*\n]{_IN_PARAGRAPH})*)(?<=[^\s*])\1"
                r"(?:(?<=\*\*)|(?![0-9A-Za-z]))(?!\*)"), r"\2"),
    (re.compile(rf"(?<![\w\\])(_{{1,3}})(?!(?:{_DUNDERS})__(?!\w))(?=[^\s_])"
                rf"((?:[^_\n]|{_INTRAWORD}{_IN_PARAGRAPH})*)(?<=[^\s_])\1(?!\w)"), r"\2"),
    (re.compile(r"~~(?=[^\s~])([^~\n]*)(?<=[^\s~])~~(?!~)"), r"\1"),
    (re.compile(r"(?<=\w)\\_(?=\w)"), "_"),
    (re.compile(r"^([0-9]+)\\\.", re.MULTILINE), r"\1."),
]  # fmt: skip


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
