"""The tags of HTML: which are meant as such, and whether a parser can bear them."""

import html
import html.entities
import re

DEEPEST = 100
"""Elements within one another. The parser takes quadratic time for deep nesting, ..."""
_MOST = 1_000
"""... and for the attributes of one tag, ..."""
_SHORT = 20_000
"""... which cannot be felt in so many characters."""

_TAG = re.compile(r"<([A-Za-z][^\s/<>]*)(\s+[^\s<>=\"'/]+\s*=)?")
"""Where a tag begins, and whether it has an attribute with a value: '<a href='."""
_CLOSING = re.compile(r"</([A-Za-z][^\s/<>]*)\s*>")
"""The tag that ends an element: '</p>'."""
_ENTITY = re.compile(r"&(?=([A-Za-z][A-Za-z0-9]{1,31};))")
"""A character by its name: '&amp;'."""
_ANGLE = re.compile(r"<(/?)([A-Za-z][^\s/<>]*)[^<>]*>?")
"""A tag, or a part of one: '<a href="x">'."""
_BY_THE_BOOK = re.compile(
    r"<[A-Za-z][^\s/<>\"'=]*"
    r"(?:[\s/]+[^\s/<>\"'=]+(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'=<>`][^\s\"'<>`]*))?)*[\s/]*>"
)
"""A tag of which nobody can be in doubt where it ends: '<a href="x" hidden>'."""
_UNSEEN = re.compile(
    r"<(script|style|template|svg)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE
)
"""What no reader sees: '<!-- no -->'."""
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
"""The value of an attribute: '"x"'."""
_SEPARATOR = re.compile(r"[\s/]+")
"""What stands between two attributes: ' '."""
_ANY_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
"""Whatever looks like a tag: '</p>'."""
_FLAT = frozenset([
    "br", "hr", "img", "wbr", "input", "meta", "link", "col", "area", "source", "track", "base",
    "p", "li", "dt", "dd", "tr", "td", "th", "tbody", "thead", "tfoot", "option", "optgroup",
])  # fmt: skip
"""Elements that end by themselves, or where the next one of them begins."""
_STANDALONE = frozenset([
    "h1", "h2", "h3", "h4", "h5", "h6", "br", "hr", "p", "li", "ul", "ol", "div", "span", "img",
    "wbr", "td", "th", "tr", "dt", "dd", "input", "html", "head", "body", "pre", "table",
    "blockquote",
])  # fmt: skip
"""Elements whose name alone says that a tag is meant, since programs have no types of that name."""
_ELEMENTS = frozenset([
    "a", "abbr", "address", "area", "article", "aside", "audio", "b", "base", "bdi", "bdo",
    "big", "blockquote", "body", "br", "button", "canvas", "caption", "center", "cite", "code",
    "col", "colgroup", "data", "datalist", "dd", "del", "details", "dfn", "dialog", "dir",
    "div", "dl", "dt", "em", "embed", "fieldset", "figcaption", "figure", "font", "footer",
    "form", "frame", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header",
    "hgroup", "hr", "html", "i", "iframe", "img", "input", "ins", "kbd", "label", "legend",
    "li", "link", "main", "map", "mark", "menu", "meta", "meter", "nav", "noframes",
    "noscript", "object", "ol", "optgroup", "option", "output", "p", "param", "picture", "pre",
    "progress", "q", "rp", "rt", "ruby", "s", "samp", "script", "search", "section", "select",
    "slot", "small", "source", "span", "strike", "strong", "style", "sub", "summary", "sup",
    "svg", "table", "tbody", "td", "template", "textarea", "tfoot", "th", "thead", "time",
    "title", "tr", "track", "tt", "u", "ul", "var", "video", "wbr",
])  # fmt: skip
"""The names of HTML."""

SKIPPED = frozenset([
    "script", "style", "template", "svg", "-comment", "meta", "link", "base", "iframe", "object",
    "embed", "audio", "video", "canvas", "noframes", "datalist",
])  # fmt: skip
"""Elements of which nobody reads anything."""
DIVIDING = frozenset([
    "p", "section", "article", "header", "footer", "aside", "main", "nav", "figure", "figcaption",
    "form", "fieldset", "legend", "details", "summary", "address", "center", "dl", "dt", "dd",
    "hgroup", "title", "body", "head", "html", "hr", "caption", "option", "optgroup", "select",
    "li", "tr", "td", "th", "thead", "tbody", "tfoot", "search", "dialog", "textarea", "noscript",
])  # fmt: skip
"""Elements that begin a new paragraph, and end it."""


class TooDeepError(ValueError):
    """The elements of a text are nested deeper than anybody writes."""


def tags(text: str) -> list["re.Match[str]"]:
    """Where the tags of a text begin; not those of `List<int>`, `<me@x.y>` and `a <b`."""
    if "<" not in text:
        return []
    last = text.rfind(">")
    closed = {name.lower() for name in _CLOSING.findall(text)}
    return [tag for tag in _TAG.finditer(text) if tag.end() <= last and _is_tag(tag, closed)]


def _is_tag(tag: "re.Match[str]", closed: set[str]) -> bool:
    name = tag[1].lower()
    return name in _STANDALONE or name in closed or (bool(tag[2]) and name in _ELEMENTS)


def words_escaped(text: str) -> str:
    """HTML in which everything that a parser takes for a tag is one, and for an entity likewise."""
    if "&" in text:
        text = _ENTITY.sub(
            lambda entity: "&" if entity[1] in html.entities.html5 else "&amp;", text
        )
    if "<" not in text:
        return text
    meant = {tag.start() for tag in tags(text)}
    return _TAG.sub(lambda t: t[0] if t.start() in meant else f"&lt;{t[0][1:]}", text)


def bounded(text: str) -> str:
    """HTML that the parser will have read soon, without the parts that nobody sees.

    Counts more open elements than the parser where the two may differ: only a tag that is written
    by the book is understood, and only the innermost element can be closed.

    :raises TooDeepError: it might take long
    """
    if len(text) <= _SHORT:
        return text
    text = _UNSEEN.sub(" ", text)
    open_elements: list[str] = []
    for tag in _ANGLE.finditer(text):
        name = tag[2].lower()
        if tag[1]:
            if open_elements and open_elements[-1] == name:
                open_elements.pop()
        elif not _BY_THE_BOOK.fullmatch(tag[0]) or _has_many_attributes(tag[0]):
            raise TooDeepError
        elif name not in _FLAT:
            open_elements.append(name)
            if len(open_elements) > DEEPEST:
                raise TooDeepError
    return text


def without_tags(text: str) -> str:
    """Return the words of HTML, with an empty line in the place of each tag."""
    return html.unescape(_ANY_TAG.sub("\n\n", _UNSEEN.sub("\n\n", words_escaped(text))))


def _has_many_attributes(tag: str) -> bool:
    return len(tag) > _MOST and len(_SEPARATOR.findall(_QUOTED.sub("", tag))) > _MOST
