"""Characters and spaces that look alike, or like nothing, in one form."""

import re
import unicodedata


def _styled_letters() -> dict[int, str]:
    """Map letters that Unicode has for their looks to the letters they show.

    Only blocks of mathematical, fullwidth and enclosed letters: compatibility normalisation
    of everything (NFKC) would also rewrite ligatures, fractions and Japanese punctuation.
    """
    letterlike = "ℂℊℋℌℍℎℐℑℒℕℙℚℛℜℝℤℨℬℭℯℰℱℳℴ"
    plain = [*map(ord, letterlike), *range(0x1D400, 0x1D800)]
    plain += [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]
    table = {code: unicodedata.normalize("NFKC", chr(code)) for code in plain}
    capitals, smalls = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
    for first, letters in {
        0x24B6: capitals,
        0x24D0: smalls,
        0x249C: smalls,
        0x1F110: capitals,
        0x1F130: capitals,
        0x1F150: capitals,
        0x1F170: capitals,
    }.items():
        table.update(zip(range(first, first + 26), letters, strict=True))
    return table


_BUTTONS = "Ⓜ🅰🅱🅾🅿"
"""Enclosed letters that are emoji as well, when a variation selector says so."""
_STYLED = _styled_letters()
_CONTROLS = [*range(0x01, 0x09), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0)]
_INVISIBLE = [0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F)]
_INVISIBLE += [*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC)]
_DROPPED = dict.fromkeys(_CONTROLS + _INVISIBLE, "")
_SPACES = dict.fromkeys(
    [0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x2800, 0x3000, 0x3164, 0xFFA0], " "
) | dict.fromkeys([0x0B, 0x0C, 0x85, 0x2028, 0x2029], "\n")
_CHARACTERS = {
    code: new for code, new in (_STYLED | _DROPPED | _SPACES).items() if chr(code) not in _BUTTONS
}
_BUTTON = re.compile(f"[{_BUTTONS}](?!\ufe0f)")
"""A button that stands for its letter: '🅰'; not the emoji, which a variation selector follows."""
_EMOJI = (
    "©®\u20e3\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
_JOINING_SCRIPTS = (
    "\u0600-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00011fff"
)
_STRAY_JOINER = re.compile(
    f"(?<![{_EMOJI}{_JOINING_SCRIPTS}])[\u200c\u200d]+"
    f"|(?<=[{_EMOJI}])(?:\u200c[\u200c\u200d]*|\u200d(?![{_EMOJI}])[\u200c\u200d]*)"
)
r"""A joiner that joins nothing: 'a\u200db'; not in emoji and scripts that need it."""
_STRAY_TAG_CHARACTER = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+")
r"""Text in invisible letters: 'a\U000e0041'; not those after a black flag, which name a region."""
_DECOMPOSED = re.compile(
    "\\w[\u0300-\u036f\u3099\u309a]{1,4}(?![\u0300-\u036f\u3099\u309a])"
    "|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
)
r"""A letter and its marks that Unicode has as one character: 'e\u0301'."""
_BLANKS = re.compile(r"[ \t]+")
r"""Space between words: 'a \t b'."""
_LINE_BREAK = re.compile(r" ?\n ?")
r"""A line break with the spaces beside it: 'a \n b'."""
_EMPTY_LINES = re.compile(r"\n{3,}")
r"""More than one empty line: 'a\n\n\nb'."""
_WIDEST = 40
"""The most characters of indentation that say something."""


def plain_characters(text: str) -> str:
    """Letters as letters, spaces as spaces, composed, and nothing that cannot be seen."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    text = text.translate(_CHARACTERS)
    if text.isascii():
        return text
    text = _BUTTON.sub(lambda match: _STYLED[ord(match[0])], text)
    text = _STRAY_TAG_CHARACTER.sub("", _STRAY_JOINER.sub("", text))
    # Not the whole text at once: sorting a long run of combining marks is quadratic in CPython.
    return _DECOMPOSED.sub(lambda match: unicodedata.normalize("NFC", match[0]), text)


def plain_whitespace(text: str) -> str:
    """One space between words, at most one blank line between lines, none at the ends."""
    return plain_spaces(text).strip()


def plain_spaces(text: str) -> str:
    """`plain_whitespace` of a piece of a text: the ends are not its ends."""
    if "  " in text or "\t" in text:
        text = _BLANKS.sub(" ", text)
    return _EMPTY_LINES.sub("\n\n", _LINE_BREAK.sub("\n", text)) if "\n" in text else text


def plain_text(text: str) -> str:
    """Text without marks in its normal form: `plain_characters` and `plain_whitespace`, but lines
    keep their indentation where it is more than one space and not the same for all.
    """
    lines = [line.strip(" \t") and line for line in plain_characters(text).split("\n")]
    margin = _margin([line for line in lines if line])
    spaced = "\n".join(_spaced(line[margin:]) for line in lines)
    return _EMPTY_LINES.sub("\n\n", spaced).strip("\n")


def _margin(lines: list[str]) -> int:
    """Return how many characters of indentation are the same for all lines."""
    if not lines:
        return 0
    # What the first and the last in their order have in common is common to all.
    first, last = _indentation(min(lines)), max(lines)
    return next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _spaced(line: str) -> str:
    bare = line.lstrip(" \t")
    indentation = line[: min(len(line) - len(bare), _WIDEST)]
    return (indentation if indentation != " " else "") + plain_spaces(bare.rstrip(" \t"))
