"""Strings made from a pattern's own parts, repeated where the pattern repeats.

A backtracking engine is slow where a repetition can match a text in many ways and then fails. So
each repetition of a pattern is pumped: what leads to it, what it repeats, many times over, and
something on which the rest of the pattern fails.
"""

import re
import sys
from collections.abc import Iterator
from itertools import chain, islice, product
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants as code
    from re import _parser as parser
else:
    import sre_constants as code
    import sre_parse as parser

FAILURES = ("", "\0", "\n\n`", " ")
"""Ends on which a pattern fails; NUL is in the class of hardly any."""

_CHARACTERS = "aZ_0 -\n\t.,:;!?*`~|<>()[]{}#=/&\"'\\+%\u00e9\u0301\u4e16\u3002\u061f\u200d"
_MOST = 6
_MANY = 3


def attacks(pattern: "re.Pattern[str]") -> list[tuple[str, str, str]]:
    """Prefix, pump and suffix of each attack on a pattern."""
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    found = dict.fromkeys(
        (prefix, pump, failure)
        for prefix, pumps in _repetitions(list(tree), [""], pattern.flags)
        for pump in chain(pumps, map("".join, product(pumps, repeat=2)), [prefix + pumps[0]])
        for failure in FAILURES
        if pump
    )
    whole = _texts(list(tree), pattern.flags)
    found |= dict.fromkeys(("", text, failure) for text in whole for failure in FAILURES if text)
    # Beginnings that are cut short, one after the other: an attempt at each, and all of them fail.
    found |= dict.fromkeys(("", text[:end], "") for text in whole for end in range(1, len(text)))
    return list(found)


def _repetitions(
    items: list[Any], prefixes: list[str], flags: int
) -> Iterator[tuple[str, list[str]]]:
    """Every repetition below `items`: what leads to it, and what it repeats."""
    for index, (kind, value) in enumerate(items):
        before = [p + t for p, t in product(prefixes, _texts(items[:index], flags)[:2])][:2]
        if kind in (code.MAX_REPEAT, code.MIN_REPEAT, getattr(code, "POSSESSIVE_REPEAT", None)):
            if value[1] is code.MAXREPEAT or value[1] > _MANY:
                for prefix in before:
                    yield prefix, _texts(list(value[2]), flags)
            yield from _repetitions(list(value[2]), before, flags)
        else:
            for part in _parts(kind, value):
                yield from _repetitions(part, before, flags)


def _parts(kind: Any, value: Any) -> list[list[Any]]:
    if kind is code.SUBPATTERN:
        return [list(value[3])]
    if kind is code.BRANCH:
        return [list(branch) for branch in value[1]]
    if kind in (code.ASSERT, code.ASSERT_NOT):
        return [list(value[1])]
    if kind is getattr(code, "ATOMIC_GROUP", None):
        return [list(value)]
    return []


def _texts(items: list[Any], flags: int) -> list[str]:
    """A few texts that a sequence matches, or nearly: assertions are not enforced."""
    texts = [""]
    groups: dict[int, str] = {}
    for kind, value in items:
        options = _options(kind, value, flags, groups)
        texts = list(
            dict.fromkeys(t + o for o, t in islice(product(options, texts), _MOST * _MOST))
        )
        # the first of each option before the second of any
        texts = texts[:: max(1, len(texts) // _MOST)][:_MOST]
    return texts


def _options(kind: Any, value: Any, flags: int, groups: dict[int, str]) -> list[str]:
    if kind is code.LITERAL:
        return [chr(value)]
    if kind in (code.NOT_LITERAL, code.IN, code.ANY):
        return _members(kind, value, flags)
    if kind in (code.MAX_REPEAT, code.MIN_REPEAT, getattr(code, "POSSESSIVE_REPEAT", None)):
        least, most, body = value
        texts = _texts(list(body), flags)
        counts = dict.fromkeys([max(least, 1), least, min(least + 1, most)])
        return [text * count for count in counts for text in texts]
    if kind is code.SUBPATTERN:
        texts = _texts(list(value[3]), flags)
        if value[0] is not None:
            groups[value[0]] = texts[0]
        return texts
    if kind is code.GROUPREF:
        return [groups.get(value, "")]
    if kind is code.AT and value is code.AT_BEGINNING and flags & re.MULTILINE:
        return ["\n"]
    if kind is code.ASSERT:
        return _texts(list(value[1]), flags) if value[0] < 0 else [""]
    if kind is code.ASSERT_NOT:
        return [""]
    texts = [text for part in _parts(kind, value) for text in _texts(part, flags)]
    return texts or [""]


def _members(kind: Any, value: Any, flags: int) -> list[str]:
    """A few characters of a class: its own letters first, then any that it takes."""
    one = re.compile(_source(kind, value), flags & ~re.VERBOSE)
    own = []
    if kind is code.IN:
        for what, which in value:
            own += [chr(which)] if what is code.LITERAL else []
            own += [chr(which[0]), chr(which[1])] if what is code.RANGE else []
    return [c for c in dict.fromkeys([*own, *_CHARACTERS]) if one.fullmatch(c)][:_MOST]


_CATEGORIES = {
    code.CATEGORY_DIGIT: r"\d",
    code.CATEGORY_NOT_DIGIT: r"\D",
    code.CATEGORY_SPACE: r"\s",
    code.CATEGORY_NOT_SPACE: r"\S",
    code.CATEGORY_WORD: r"\w",
    code.CATEGORY_NOT_WORD: r"\W",
}


def _source(kind: Any, value: Any) -> str:
    if kind is code.ANY:
        return "."
    if kind is code.NOT_LITERAL:
        return f"[^{_escaped(value)}]"
    inside = ""
    for what, which in value:
        if what is code.NEGATE:
            inside += "^"
        elif what is code.LITERAL:
            inside += _escaped(which)
        elif what is code.RANGE:
            inside += f"{_escaped(which[0])}-{_escaped(which[1])}"
        else:
            inside += _CATEGORIES[which]
    return f"[{inside}]"


def _escaped(character: int) -> str:
    return f"\\U{character:08x}"
