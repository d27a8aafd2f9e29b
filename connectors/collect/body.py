"""The body of an answer, read within a limit that also holds for what it is decompressed to."""

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Final

_PIECE: Final = 2**16


class TooLargeError(Exception):
    """A body above its limit."""


class TruncatedError(Exception):
    """A body that ends before its end."""


class UnknownEncodingError(Exception):
    """A body that is compressed in a way that nobody asked for."""


def spool(chunks: Iterable[bytes], encoding: str, limit: int, into: IO[bytes]) -> None:
    """Write a body into a file, decompressed.

    :param encoding: its `Content-Encoding`
    :param limit: bytes that it may have, decompressed
    :raises TooLargeError: it has more
    :raises TruncatedError: it is compressed, and lacks its end
    :raises UnknownEncodingError: it is compressed with something other than gzip
    """
    if encoding.lower() not in ("", "identity", "gzip", "x-gzip"):
        raise UnknownEncodingError(f"Content-Encoding {encoding:.40}")
    size = 0
    for piece in chunks if encoding.lower() in ("", "identity") else _decompressed(chunks):
        size += len(piece)
        if size > limit:
            raise TooLargeError
        into.write(piece)
    into.seek(0)


def _decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip stream, in pieces of a bounded size whatever it is compressed to."""
    member = zlib.decompressobj(31)
    begun = False
    for chunk in chunks:
        rest = chunk
        while rest:
            begun = True
            try:
                piece = member.decompress(rest, _PIECE)
            except zlib.error as error:
                raise TruncatedError(f"damaged gzip: {error}") from error
            yield piece
            rest = member.unconsumed_tail
            if member.eof:
                rest, member = member.unused_data.lstrip(b"\0"), zlib.decompressobj(31)
                begun = bool(rest)
            elif not piece and not rest:
                break
    while begun and (piece := member.decompress(b"", _PIECE)):
        yield piece
    if begun and not member.eof:
        raise TruncatedError("gzip without its end")
