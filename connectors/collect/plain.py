"""The visible text of a piece of HTML, for titles and the like."""

from selectolax.lexbor import LexborHTMLParser

_LONGEST = 2**16


def plain(markup: str) -> str:
    """One line of text: no tags, no character references, no runs of white space."""
    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    body = LexborHTMLParser(markup[:_LONGEST]).body
    return " ".join(body.text(separator=" ").split()) if body is not None else ""


def short_language(text: str) -> str:
    """`en` for en-US; empty for what is no language."""
    language = text.strip().lower().replace("_", "-").partition("-")[0]
    return language if 2 <= len(language) <= 3 and language.isalpha() else ""
