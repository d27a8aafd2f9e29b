"""The characters of a feed, whatever it says that its encoding is."""

import codecs
import re
from collections.abc import Iterator
from typing import IO, Final

_PIECE: Final = 2**16
_TEXT: Final = re.compile(
    r"(utf|iso|windows|cp|koi8|gb|big5|shift|s?jis|euc|mac|us-ascii|ascii|latin|tis|hz|ks_c|x-sjis)"
    r"[\w-]*",
    re.IGNORECASE,
)
"""Names of encodings of text; Python also knows ones that take quadratic time."""
_DECLARED: Final = re.compile(rb"""^\s*<\?xml[^>]{0,200}encoding\s*=\s*["']([\w.:-]{1,40})""")
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


def encoding_of(body: IO[bytes], content_type: str) -> str:
    """The encoding of a whole body: of those that it may have, the first that fits all of it.

    UTF-8 comes first, since nothing else that holds more than ASCII fits it by chance, while a
    wrong declaration of a one-byte encoding fits everything.
    """
    head = body.read(512)
    body.seek(0)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    declared = [found[1].decode("ascii") for found in [_DECLARED.match(head)] if found]
    declared += [found[1] for found in [_CHARSET.search(content_type)] if found]
    declared = [name for name in declared if _TEXT.fullmatch(name) and _is_known(name)]
    # these look like ASCII
    first = [name for name in declared if name.lower().startswith(("iso-2022", "hz"))]
    for encoding in (*first, "utf-8", *declared, "windows-1252"):
        if _fits(body, encoding):
            return encoding
    return "latin-1"


def characters(body: IO[bytes], encoding: str) -> Iterator[str]:
    """The text of a body, piece by piece."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while piece := body.read(_PIECE):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _fits(body: IO[bytes], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        while piece := body.read(_PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    finally:
        body.seek(0)
    return True


def _is_known(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True
