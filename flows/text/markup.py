"""HTML: tags and entities.

Recognised by their own patterns rather than by a parser. A parser makes a tree of whatever it gets,
so it eats `List<int>` in a mixed text, and lexbor needs quadratic time for deep nesting.
"""

import html
import re

from flows.text.code import Kept

_TAG = re.compile(
    r"<!--|<[!?][A-Za-z\[][^<>]*>"
    r"""|<(?P<close>/)?(?P<name>[A-Za-z][\w:-]*)(?P<attributes>(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*')*)?)>"""
)
"""A tag, a declaration, or where a comment begins: '<a href="x">', '<!DOCTYPE html>', '<!--'."""
_CLOSING_TAG = re.compile(r"</([A-Za-z][\w:-]*)\s*>")
"""The tag that ends an element: '</p>'. Its name is then known to be one of HTML."""
_ATTRIBUTE = re.compile(r"""\w=["'\w#/.%-]|=\s*["']""")
"""An attribute with a value, which no generic type has: ' href="x"'."""
_ENTITY = re.compile(r"&(?:amp;)*(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""A character by its name or number, escaped any number of times: '&amp;lt;'."""
_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_STANDALONE = frozenset([
    *_HEADINGS, "br", "hr", "p", "li", "ul", "ol", "div", "span", "img", "wbr", "td", "th", "tr",
    "input",
])  # fmt: skip
_RAW = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE)
    for name in ("script", "style", "template", "svg", "pre", "code")
}
"""Where an element ends whose content is no markup: '</script>'."""
_PARAGRAPHS = [
    *_HEADINGS, "p", "div", "ul", "ol", "dl", "table", "blockquote", "section", "article", "header",
    "footer", "aside", "main", "nav", "figure", "figcaption", "form", "hr", "title", "head", "body",
]  # fmt: skip
_SPACING = dict.fromkeys(_PARAGRAPHS, "\n\n") | {
    "br": "\n", "li": "\n", "tr": "\n", "dt": "\n", "dd": "\n", "td": " ", "th": " ",
}  # fmt: skip


def strip_html(text: str, kept: Kept) -> str:
    """Text without tags, comments, scripts and styles; code in `pre` and `code` is put aside."""
    if "<" not in text:
        return text
    closed = {name.lower() for name in _CLOSING_TAG.findall(text)}
    comment_end = text.rfind("-->")
    pieces: list[str] = []
    done = 0
    for tag in _TAG.finditer(text):
        if tag.start() < done or not _is_markup(tag, closed, comment_end):
            continue
        pieces.append(text[done : tag.start()])
        done = tag.end()
        name = (tag["name"] or "").lower()
        if tag[0] == "<!--":
            done = text.find("-->", done) + len("-->")
        elif name in _RAW and not tag["close"] and name in closed:
            end = _RAW[name].search(text, done)
            if end is None:  # none further on either: never look for it again
                closed.discard(name)
            else:
                pieces.append(_raw_element(name, text[done : end.start()], closed, kept))
                done = end.end()
        pieces.append(_SPACING.get(name, ""))
    return "".join([*pieces, text[done:]])


def unescape_entities(text: str) -> str:
    """Text with characters in the place of entities, `&amp;amp;lt;` included."""
    return _ENTITY.sub(lambda match: html.unescape(f"&{match[1]};"), text)


def _is_markup(tag: "re.Match[str]", closed: set[str], comment_end: int) -> bool:
    """Tell a tag from a generic type, a comparison or the mention of a tag."""
    if tag[0] == "<!--":
        return tag.end() <= comment_end
    if tag["name"] is None or tag["close"]:
        return True
    name = tag["name"].lower()
    return name in _STANDALONE or name in closed or bool(_ATTRIBUTE.search(tag["attributes"]))


def _raw_element(name: str, content: str, closed: set[str], kept: Kept) -> str:
    if name not in {"pre", "code"}:
        return " "
    code = _TAG.sub(lambda tag: "" if _is_markup(tag, closed, -1) else tag[0], content)
    code = kept.back(html.unescape(code)).replace("\x00", "")
    if name == "pre" or "\n" in code:
        return f"\n{kept.block(code)}\n"
    return kept.inline(code, f"`{code}`") if code.strip() and "`" not in code else code
