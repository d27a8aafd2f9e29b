"""The words that a reader sees, found by other programs than those that clean: html5lib for HTML,
markdown-it for Markdown.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from html.entities import html5
from textwrap import dedent
from xml.etree.ElementTree import Element

import html5lib
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from flows.text.characters import plain_characters
from flows.text.kinds import Kind

EXCEPTIONS = {
    "invisible elements": "scripts, styles, drawings, and what stands in for media",
    "tags that are words": "`List<int>`: a tag that nothing closes, and that needs to be closed",
    "entities that are words": "`&notification;`: a name that HTML does not have",
    "raised numbers": "`10<sup>6</sup>` is read as 10^6",
    "dollars": "a formula keeps the marks that make it one, and is shown as it was written",
    "cells": "a table has as many columns as its longest row",
    "what somebody said": "`[Bob]: Yes`, which CommonMark takes for the target of a link",
    "names of Python": "`__init__` is no name in bold",
    "single tildes": "`~5`, which some take for the start of text that is struck through",
    "doctests": "`>>> 1 + 1` is code, and no quote of a quote of a quote",
    "front matter": "what a file says about itself is code",
}
"""Where a page shows something else, by intention."""

_INVISIBLE = {
    "script", "style", "template", "svg", "iframe", "object", "embed", "audio", "video",
    "canvas", "noframes", "datalist",
}  # fmt: skip
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd",
    "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure",
    "footer", "form", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header",
    "hgroup", "hr", "html", "legend", "li", "listing", "main", "menu", "nav", "noscript", "ol",
    "optgroup", "option", "p", "plaintext", "pre", "search", "section", "select", "summary",
    "table", "tbody", "td", "textarea", "tfoot", "th", "thead", "title", "tr", "ul", "xmp",
}  # fmt: skip
_NEEDS_NO_END = {
    "body", "br", "dd", "div", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "html",
    "img", "input", "li", "ol", "p", "pre", "span", "table", "td", "th", "tr", "ul", "wbr",
    "blockquote",
}  # fmt: skip
_ELEMENTS = _INVISIBLE | _BLOCKS | {
    "a", "abbr", "area", "b", "base", "bdi", "bdo", "big", "button", "cite", "code", "col",
    "colgroup", "data", "del", "dfn", "em", "font", "frame", "i", "img", "input", "ins", "kbd",
    "label", "link", "map", "mark", "meta", "meter", "output", "param", "picture", "progress",
    "q", "rp", "rt", "ruby", "s", "samp", "slot", "small", "source", "span", "strike",
    "strong", "sub", "sup", "time", "track", "tt", "u", "var", "wbr",
}  # fmt: skip
_TAG = re.compile(r"<([A-Za-z][^\s/<>]*)(\s+[^\s<>=\"'/]+\s*=)?")
_END_TAG = re.compile(r"</([A-Za-z][^\s/<>]*)\s*>")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*;)")
_FRONT_MATTER = re.compile(r"---\n((?:\w.*:.*\n|[ \t#-].*\n)+?)---(?:\n|\Z)")
_RULE = re.compile(r"[ >\t]*\|?[ :]*-+[ :]*\|[-| :]*")
_WAY_BACK = re.compile(r'<a href="[^"]*" class="footnote-backref">.*?</a>')
_RAISED = re.compile(
    r"(?<=[^\W_])([\ue000\ue001])(?!(?:st|nd|rd|th|tm|sm|er|e|®|©|™)?\ue002)", re.I
)


def shown(text: str, kind: Kind) -> list[str]:
    """The words of a text, in their order."""
    text = text.encode("utf-8", "replace").decode()
    text = re.sub("\r\n|[\r\f\v]", "\n", text).replace("\x00", "")
    if kind is Kind.PLAIN:
        return plain_characters(text).split()
    return plain_characters(_page(text if kind is Kind.HTML else _rendered(text))).split()


def _rendered(markdown: str) -> str:
    matter = _FRONT_MATTER.match(markdown)
    if matter:
        markdown = f"```\n{matter[1]}```\n{markdown[matter.end() :]}"
    lines = _widened(list(_with_doctests(dedent(markdown).split("\n"))))
    return _WAY_BACK.sub("", _parser().render("\n".join(lines)))


def _with_doctests(lines: list[str]) -> Iterator[str]:
    fence, in_test = "", False
    for line in lines:
        mark = re.match(r"[ \t]*(`{3,}|~{3,})(.*)", line)
        if mark and not in_test and not fence:
            fence = mark[1]
        elif mark and fence and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        begins = not fence and not in_test and re.match(" {0,3}>>> ", line)
        if begins or (in_test and not line.strip()):
            in_test = bool(begins)
            yield "~~~~~~"
        yield line
    yield "~~~~~~" if in_test else ""


def _widened(lines: list[str]) -> list[str]:
    for place, line in enumerate(lines):
        if place and _RULE.fullmatch(line) and _cells(line) == _cells(lines[place - 1]):
            rows = itertools.takewhile(str.strip, lines[place + 1 :])
            missing = max(map(_cells, rows), default=0) - _cells(line)
            if missing > 0:
                lines[place - 1] = (
                    lines[place - 1].rstrip().removesuffix("|") + "|" + " |" * missing
                )
                lines[place] = line.rstrip().removesuffix("|") + "|" + "-|" * missing
    return lines


def _cells(line: str) -> int:
    line = line.strip(" \t>").removeprefix("|")
    return len(re.split(r"(?<!\\)\|", re.sub(r"(?<!\\)\|\Z", "", line)))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": 1000}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_digits=False, allow_space=False, renderer=_with_dollars)
    parser.use(footnote_plugin, inline=False)
    parser.normalizeLinkText = lambda link: link  # type: ignore[method-assign]  # as it is
    parser.add_render_rule("strong_open", _strong)
    parser.add_render_rule("strong_close", _strong)
    return parser


def _strong(
    _renderer: object, tokens: Sequence[Token], index: int, _options: object, _env: object
) -> str:
    text = tokens[index + tokens[index].nesting].content
    if tokens[index].markup == "__" and re.fullmatch("[a-z0-9]+(?:_[a-z0-9]+)*", text):
        return "__"
    return "<strong>" if tokens[index].nesting > 0 else "</strong>"


def _with_dollars(formula: str, options: dict[str, bool]) -> str:
    if formula.count("{") != formula.count("}"):  # then it is none
        formula = re.sub(r"\\([!-/:-@[-`{-~])", r"\1", formula)
    return escape(f"$${formula}$$" if options["display_mode"] else f"${formula}$")


def _page(html: str) -> str:
    closed = {name.lower() for name in _END_TAG.findall(html)} | _NEEDS_NO_END
    html = _ENTITY.sub(lambda name: name[0] if name[1] in html5 else f"&amp;{name[1]}", html)
    html = _TAG.sub(lambda tag: tag[0] if _is_tag(tag, closed) else f"&lt;{tag[0][1:]}", html)
    text = "".join(_seen(html5lib.parse(html, namespaceHTMLElements=False)))
    text = _RAISED.sub(lambda mark: "^" if mark[1] == "\ue000" else "_", text)
    return re.sub("[\ue000-\ue002]", "", text)


def _is_tag(tag: "re.Match[str]", closed: set[str]) -> bool:
    return tag[1].lower() in closed or (tag[1].lower() in _ELEMENTS and bool(tag[2]))


def _seen(element: Element) -> Iterator[str]:
    name: object = element.tag  # a comment has a function for a name
    tag = name.rpartition("}")[2] if isinstance(name, str) else "script"
    if tag not in _INVISIBLE:
        yield "\n" if tag in _BLOCKS else {"sup": "\ue000", "sub": "\ue001"}.get(tag, "")
        yield element.get("alt", "") if tag == "img" else ""
        tex = (
            element.find(".//{*}annotation[@encoding='application/x-tex']")
            if tag == "math"
            else None
        )
        if tex is not None:
            yield f"${tex.text}$" + (element.tail or "")
            return
        yield element.text or ""
        number = _start(element) if tag == "ol" else 0
        for child in element:
            if tag == "ol" and child.tag == "li":
                yield f"\n{number}. "
                number += 1
            yield from _seen(child)
        yield "\n" if tag in _BLOCKS else "\ue002" if tag in {"sup", "sub"} else ""
    yield element.tail or ""


def _start(element: Element) -> int:
    start = element.get("start", "1")
    return int(start) if start.isdigit() else 1
