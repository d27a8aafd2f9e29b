"""Room on the disk of the store."""

import os
from pathlib import Path
from typing import Final

MIN_FREE_BYTES: Final = 64 * 2**20
"""No write begins with less room on the disk: the engine needs two segments of its log."""


class DiskFullError(Exception):
    """There is no room for a write; nothing of it was done."""


def check_room(folder: Path, more: int = 0) -> None:
    """Whether a write may begin that needs so many bytes more.

    :raises DiskFullError: there is not enough room
    """
    disk = os.statvfs(folder)
    need = MIN_FREE_BYTES + more
    if disk.f_bavail * disk.f_frsize < need:
        raise DiskFullError(
            f"No space left on device: less than {need >> 20} MB are free on the disk of the store"
        )


def size_of(folder: Path) -> int:
    """Bytes that its files take on the disk, as far as they stay there meanwhile."""
    return sum(_size_of_file(file) for file in folder.rglob("*"))


def _size_of_file(file: Path) -> int:
    try:
        return 512 * file.stat().st_blocks
    except FileNotFoundError:  # the engine removes what it has replaced
        return 0
