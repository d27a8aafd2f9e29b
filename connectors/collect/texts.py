"""Whether a file of a repository is text, by its content: names say little, and authors lie."""

import codecs
from typing import Final

_ASCII: Final = bytes(range(128))
_CONTROLS: Final = bytes(set(range(32)) - set(b"\b\t\n\f\r\x1b"))
_FEW: Final = 0.05
"""The share of bytes beyond ASCII up to which an unknown encoding costs only those characters."""
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

BINARY: Final = "binary"
ENCODING: Final = "of an unknown encoding"
POINTER: Final = "Git LFS pointers"


class NotTextError(ValueError):
    """A file that is none; its text is the kind of it, in the plural."""


def text_of(data: bytes) -> str:
    """The text of a file.

    A byte order mark says how it is encoded. Without one it is UTF-8, else, where nearly all of it
    is ASCII, an old encoding that nobody can tell: code and most words are kept, and each byte
    beyond ASCII becomes U+FFFD rather than a guess. NUL, or more than a few control characters,
    is of no text.

    :raises NotTextError: binary, the pointer to a file elsewhere, or of an unknown encoding
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                text = data.decode(encoding)
            except UnicodeError as error:
                raise NotTextError(BINARY) from error
            return _without_nul(text)
    if b"\0" in data or len(data) - len(data.translate(None, _CONTROLS)) > len(data) // 100:
        raise NotTextError(BINARY)
    if data.startswith(_LFS):
        raise NotTextError(POINTER)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        beyond = len(data.translate(None, _ASCII))
        if beyond > _FEW * len(data):
            raise NotTextError(ENCODING) from error
        return data.decode("utf-8", "replace")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise NotTextError(BINARY)
    return text
