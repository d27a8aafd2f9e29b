"""Zip archives of strangers: read member by member in memory, nothing is extracted to disk."""

import contextlib
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from typing_extensions import override

from models.errors import SourceError

MAX_DIRECTORY: Final = 4_000_000
"""Bytes of the list of members, which the library reads at once: 40,000 of them, or more."""
MAX_TOTAL: Final = 1_000_000_000
"""Unpacked bytes that are read of one archive."""
MAX_RATIO: Final = 200
"""Unpacked bytes for each packed one, beyond the first megabyte: text is packed by 3 to 20."""
_BLOCK: Final = 65_536
_ENCRYPTED: Final = 0x1
_READABLE: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,
    ValueError,
    OverflowError,
    IndexError,
    MemoryError,
)


class MemberError(Exception):
    """One member that cannot be read; its text is the reason."""


@dataclass(slots=True)
class Archive:
    """An opened archive."""

    members: tuple[zipfile.ZipInfo, ...]
    """Regular files with paths that stay below the archive, in the order of the archive."""
    skipped: tuple[str, ...]
    """Names of the others: links, devices, paths that lead elsewhere, names that come again."""
    _file: zipfile.ZipFile
    _left: int

    def read(self, member: zipfile.ZipInfo, largest: int) -> bytes:
        """Unpack one member.

        :param largest: bytes that it may unpack to
        :raises MemberError: it is encrypted, broken, too large, or a bomb
        :raises SourceError: the archive as a whole unpacks to too much
        """
        if member.flag_bits & _ENCRYPTED:
            raise MemberError("it is encrypted")
        if member.compress_type not in _READABLE:
            raise MemberError("it is packed by a method that we do not read")
        largest = min(largest, 1_000_000 + MAX_RATIO * member.compress_size)
        content = bytearray()
        try:
            with self._file.open(member) as file:
                while block := file.read(_BLOCK):
                    content += block
                    self._left -= len(block)
                    # counted while reading: the size that the archive claims is a claim
                    if len(content) > largest:
                        raise MemberError(f"it unpacks to more than {largest:,} bytes")
                    if self._left < 0:
                        raise SourceError(f"it unpacks to more than {MAX_TOTAL:,} bytes")
        except _ERRORS as error:
            raise MemberError(f"it is broken: {error}") from error
        return bytes(content)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip archive.

    :raises SourceError: there is none, it is broken, or has too many members
    """
    if not path.is_file():  # a pipe would be waited for
        raise SourceError(f"there is no file {path}")
    try:
        file = zipfile.ZipFile(_Bounded(path))
    except _ERRORS as error:
        raise SourceError(f"{path.name} is no zip archive that can be read: {error}") from error
    with file:
        taken, skipped = _sorted_out(file.infolist())
        yield Archive(taken, skipped, file, MAX_TOTAL)


class _Bounded(io.BufferedReader):
    """A file that is not read at once: its list of members may claim to be as large as itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        limit = MAX_DIRECTORY if size is None or size < 0 else size
        if limit > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has more than {MAX_DIRECTORY:,} bytes")
        return super().read(limit)


def _sorted_out(
    members: list[zipfile.ZipInfo],
) -> tuple[tuple[zipfile.ZipInfo, ...], tuple[str, ...]]:
    taken: dict[str, zipfile.ZipInfo] = {}
    skipped = []
    for member in members:
        if member.is_dir():
            continue
        mode = member.external_attr >> 16
        regular = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
        path = PurePosixPath(member.filename.replace("\\", "/"))
        inside = not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]
        if regular and inside and member.filename not in taken:
            taken[member.filename] = member
        else:
            skipped.append(member.filename)
    return tuple(taken.values()), tuple(skipped)
