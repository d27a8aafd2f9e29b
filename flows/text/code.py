"""Code within a text: put aside, and put back as it was written."""

import re

from flows.text.characters import plain_characters

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>(?P<mark>[`~])(?P=mark){2,})(?!(?P=mark))[^`\n]*\n"
    r"(?P<code>.*?)"
    r"(?:^[ \t]*(?P=fence)(?P=mark)*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
r"""A block between fences, the last one open or not: '```py\nx = 1\n```'."""
_INLINE_CODE = re.compile(r"(?<!`)(?P<ticks>`{1,2})(?!`)(?P<code>[^`\n]+)(?P=ticks)(?!`)")
"""Code within a sentence: 'call `x()` first'."""
_KEPT = re.compile("\x00([0-9]+)\x00")
r"""The placeholder of a passage that was put aside: '\x007\x00'."""
_MISREAD_AS_MARKUP = re.compile(
    r"[`~\[\]|\\]|(?<! )\*|\*(?! )|(?<!\w)_|_(?!\w)|<[A-Za-z/!?]|&[#A-Za-z]|://|www\."
    r"|^[#>+=\-\s]|^[*] |\s$|[ \t]{2}|\t| \n|\n\n\n",
    re.MULTILINE | re.IGNORECASE,
)
"""Code that cleaning would change if it stood alone: 'a[0]'."""
_TICKS = re.compile("`+")
"""Backquotes, than which a fence around them must be longer: '````'."""


class Kept:
    """Passages put aside while the text around them is cleaned."""

    def __init__(self) -> None:
        self._passages: list[str] = []

    def put(self, passage: str) -> str:
        """Return a placeholder; NUL occurs nowhere else, see `clean_text`."""
        self._passages.append(self.back(passage))
        return f"\x00{len(self._passages) - 1}\x00"

    def back(self, text: str) -> str:
        """Return the text with every placeholder replaced by its passage."""
        return _KEPT.sub(lambda match: self._passages[int(match[1])], text)

    def block(self, code: str) -> str:
        """Put a code block aside."""
        code = self.back(code).strip("\n")
        if not code.strip():
            return "\n"
        # Without its fence this code would be taken for prose the next time the text is cleaned.
        if not _reads_the_same(code):
            ticks = "`" * max(3, 1 + max(map(len, _TICKS.findall(code)), default=0))
            code = f"{ticks}\n{code}\n{ticks}"
        return f"\n{self.put(code)}\n"

    def inline(self, code: str, marked: str) -> str:
        """Put code within a sentence aside."""
        return self.put(code if _reads_the_same(code) else marked)


def _reads_the_same(code: str) -> bool:
    """Tell whether code would survive cleaning without the marks around it."""
    return not _MISREAD_AS_MARKUP.search(code) and plain_characters(code) == code


def put_code_aside(text: str, kept: Kept) -> str:
    """Text with placeholders in the place of fenced and inline code."""
    if "`" not in text and "~" not in text:
        return text
    text = _FENCE.sub(lambda match: kept.block(match["code"]), text)
    return _INLINE_CODE.sub(lambda match: kept.inline(match["code"], match[0]), text)
