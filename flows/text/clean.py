"""Cleaning of prose: it keeps the words that an author would read aloud, and the code they quote.

Nothing here knows a language. Noise is removed by name (a tag, an emphasis mark, a zero-width
character), and everything else stays, letter case included: dropping "non-ASCII" characters would
destroy every language except English.

Every pattern of its parts is linear: an attempt that fails ends at the character that can start the
next.
"""

import re
from collections.abc import Sequence

from flows.text.characters import plain_characters, plain_whitespace
from flows.text.code import Kept, put_code_aside
from flows.text.markdown import strip_links, strip_markdown
from flows.text.markup import strip_html, unescape_entities

_ROUNDS = 6
"""Markup may wrap markup (`&amp;lt;b&amp;gt;`). Real text settles in two or three rounds."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
r"""Half of a character, which no UTF-8 can hold: '\ud800'."""
_ANY_MARKUP = re.compile(r"[*_~`<>&\[\]|\\#=:@/+-]|www(?=\.)", re.IGNORECASE)
"""Anything that could still be read as a mark: '*'."""


def clean_text(text: str) -> str:
    """Return prose without HTML, Markdown, links and invisible characters.

    In: any string, lone surrogates included (they become U+FFFD). Never source code: a file of a
    repository is not prose. Out: paragraphs separated by one blank line, words by one space;
    words, letter case, punctuation and emoji of every language as they were; code blocks and
    inline code exactly as written. Code that would itself read as markup keeps its backticks, so
    that `clean_text(clean_text(x)) == clean_text(x)` for every x.

    Time grows linearly with the text. Raises nothing.
    """
    text = _valid(text)
    for _ in range(_ROUNDS):
        cleaned = _clean_once(text)
        if cleaned == text:
            return text
        text = cleaned
    return _words_only(text)


def clean_texts(texts: Sequence[str]) -> list[str]:
    """Clean the prose of one document; see `clean_text`."""
    return [clean_text(text) for text in texts]


def _valid(text: str) -> str:
    text = _LONE_SURROGATE.sub("\ufffd", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def _words_only(text: str) -> str:
    """Remove all marks from a text that still changes: nobody writes markup nested this deep."""
    return plain_whitespace(plain_characters(_ANY_MARKUP.sub(" ", text)))


def _clean_once(text: str) -> str:
    kept = Kept()
    text = put_code_aside(text, kept)
    text = strip_html(text, kept)
    text = unescape_entities(text)
    text = plain_whitespace(plain_characters(text))
    text = strip_markdown(text)
    text = strip_links(text)
    return kept.back(plain_whitespace(text))
