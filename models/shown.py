"""Text of documents and of servers as a person may be shown it, on a terminal or in a log."""

import json
import re
from typing import Any, Final

LIMIT: Final = 1000
"""Characters of one line; a value may have millions."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
r"""Not to be printed: '\x1b' begins an order to the terminal, '\x9d' too; '\n' begins a line that
looks like one of ours, '\u202e' reverses what follows, and no UTF-8 holds '\ud800'."""


def shown(value: object, limit: int = LIMIT) -> str:
    """A value as one line without control characters; those are shown as Python writes them.

    :param limit: characters of the line, above which it ends with an ellipsis
    """
    text = str(value)
    line = _UNSAFE.sub(_as_written, text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def shown_as_json(value: Any, ascii_only: bool = False) -> str:
    """JSON for people and programs: characters that no terminal may get are escaped.

    :param ascii_only: escape every character beyond ASCII as well, for an output that is not UTF-8
    """
    lines = json.dumps(value, ensure_ascii=ascii_only, indent=2).split("\n")
    return "\n".join(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in lines)


def _as_written(match: "re.Match[str]") -> str:
    return match[0].encode("unicode_escape").decode()
