"""Elements of HTML in which every character counts: code."""

from selectolax.lexbor import LexborNode

from flows.text.tags import DEEPEST, DIVIDING, SKIPPED, TooDeepError

_OWN_LINES = DIVIDING | {"div", "ul", "ol", "table", "blockquote", "pre", "h1", "h2", "h3", "h4"}


def exact_text(node: LexborNode, depth: int) -> str:
    """Return every character of an element; blocks have lines of their own."""
    if depth > DEEPEST:
        raise TooDeepError
    pieces: list[str] = []
    after_block = False
    child = node.first_child
    while child is not None:
        tag = child.tag or ""
        is_block = tag in _OWN_LINES
        text = _exact_piece(child, tag, depth)
        if text and (is_block or after_block) and pieces:
            pieces.append("" if pieces[-1].endswith("\n") or text.startswith("\n") else "\n")
        if text:
            pieces.append(text)
            after_block = is_block
        child = child.next
    return "".join(pieces).replace("\r", "\n")


def _exact_piece(node: LexborNode, tag: str, depth: int) -> str:
    if tag == "-text":
        return node.text_content or ""
    if tag == "br":
        return "\n"
    if tag == "img":
        return node.attributes.get("alt") or ""
    return "" if tag in SKIPPED else exact_text(node, depth + 1)


def language_of(node: LexborNode) -> str:
    """Return the language that an element with code names, or nothing."""
    for name in (node.attributes.get("class") or "").split():
        for prefix in ("language-", "lang-", "highlight-source-"):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
    return ""
