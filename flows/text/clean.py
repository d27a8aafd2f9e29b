"""Cleaning of prose: it keeps the words that an author would read aloud, and the code they quote.

A text is HTML, Markdown or plain (`flows.text.kinds`). HTML and Markdown are parsed into blocks,
and these are written as one canonical Markdown. Plain text stays as it is. Nothing here knows a
language, and nothing is dropped because it looks like noise.

Time grows linearly with the text.
"""

import re
from collections.abc import Sequence
from textwrap import dedent

from flows.text.blocks import Blocks
from flows.text.canonical import fenced, to_text
from flows.text.characters import plain_text
from flows.text.kinds import Kind, kind_of
from flows.text.markdown import markdown_to_html
from flows.text.markup import html_to_blocks

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
r"""Half of a character, which no UTF-8 can hold: '\ud800'."""
_LINE_END = re.compile("\r\n|[\r\f\v]")
r"""The end of a line or of a page: '\r\n'."""


def clean_text(text: str) -> str:
    """Return prose as canonical Markdown or, if it was plain, in its normal form.

    In: any string, lone surrogates included (they become U+FFFD). Never source code: a file of a
    repository is not prose. Out: blocks separated by one blank line, words by one space; the
    visible words in their order, letter case, punctuation and emoji of every language as they were;
    code exactly as written. `clean_text(clean_text(x)) == clean_text(x)` for every x. Raises
    nothing.
    """
    text = _LONE_SURROGATE.sub("\ufffd", text)
    text = _LINE_END.sub("\n", text).replace("\x00", "")
    plain = plain_text(text)
    kind = kind_of(plain)
    if kind is Kind.PLAIN:
        return plain
    blocks = _blocks(text, kind)
    written = to_text(blocks)
    if _is_settled(written):
        return written
    # What is not read back as it is written would change with the next cleaning; code never does.
    parts = map(to_text, ([block] for block in blocks))
    written = "\n\n".join(part if _is_settled(part) else fenced(part) for part in parts)
    return written if _is_settled(written) else fenced(written)


def clean_texts(texts: Sequence[str]) -> list[str]:
    """Clean the prose of one document; see `clean_text`."""
    return [clean_text(text) for text in texts]


def _blocks(text: str, kind: Kind) -> Blocks:
    if kind is Kind.HTML:
        return html_to_blocks(text)
    return html_to_blocks(markdown_to_html(dedent(text)), lines=True)


def _is_settled(text: str) -> bool:
    plain = plain_text(text)
    kind = kind_of(plain)
    return (plain if kind is Kind.PLAIN else to_text(_blocks(text, kind))) == text
