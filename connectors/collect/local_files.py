"""Files of this machine that others may have written: no link is followed, no size believed."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import bson
from bson.errors import BSONError

from models import DOCUMENT_TYPES
from models.collected import Collected, Refused
from models.errors import SourceError

LARGEST: Final = 14_000_000
"""Bytes of one document: MongoDB takes 16 MiB, and a message of it has its fields, too."""
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK: Final = 65_536


def open_file(name: str | Path, folder: int | None = None) -> IO[bytes]:
    """Open a regular file; a symbolic link is not followed, and a pipe is not waited for.

    :param folder: descriptor of the folder that a relative name begins at
    :raises OSError: there is no such regular file
    """
    handle = os.open(name, _FLAGS, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no regular file")
    return os.fdopen(handle, "rb")


def open_named(path: Path) -> IO[bytes]:
    """Open the file that a source names, which may be a link.

    :raises SourceError: there is none
    """
    try:
        return open_file(path.resolve(strict=True))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path} cannot be read: {reason}") from error


def lines_of(file: IO[bytes], longest: int = LARGEST) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers, from 1; None for one that is longer than `longest` bytes."""
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) <= longest or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_BLOCK)
        yield number, None


def checked(type_: str, key: str, fields: Mapping[str, Any]) -> Collected | Refused:
    """A document that can be stored and cleaned, else the reason why it cannot."""
    try:
        DOCUMENT_TYPES[type_].parse(key, fields)
        size = len(bson.encode(fields))
    except (BSONError, ValueError, OverflowError, TypeError, RecursionError) as error:
        return Refused(type_, key, f"it cannot be stored: {error}")
    if size > LARGEST:
        return Refused(type_, key, f"it has {size:,} bytes, over {LARGEST:,}")
    return Collected(type_, key, fields)
