"""The files of a commit that are worth reading, as texts, without a working tree."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from connectors.collect.git_program import Git
from connectors.collect.texts import NotTextError, text_of
from models.errors import SourceError
from models.machine import is_machine_made

MAX_ENTRIES: Final = 200_000
"""Files of a repository that are listed; a tree that repeats itself can have any number."""
_LINE: Final = 4096
_UNSAFE: Final = {"", ".", "..", ".git"}

_VENDORED: Final = re.compile(
    r"(?:^|/)(?:node_modules|bower_components|vendor|vendors|vendored|_vendor|third[_-]?party"
    r"|site-packages|Pods|Carthage|Godeps|\.yarn/(?:releases|plugins|sdks)|\.venv|venv"
    r"|__pycache__|dist|\.gradle|\.idea|\.vs)/"
)
"""Folders of other people's work, of products and of tools' own notes, as linguist has them."""

GENERATED: Final = "generated"
IGNORED: Final = "ignored"
LARGE: Final = "too large"
LINKS: Final = "symbolic links"
ODD_PATHS: Final = "with a path that no checkout would have"
OVER: Final = "beyond the limit of the text"
SUBMODULES: Final = "submodules"
VENDORED: Final = "vendored"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one repository."""

    file_bytes: int
    """Of one file."""
    text_bytes: int
    """Of all paths and texts together, as JSON writes them: a message holds the whole document."""
    exclude: tuple[str, ...] = ()
    """Patterns, as in `.gitignore`, of what the owner of the source does not want."""


@dataclass(slots=True)
class Tree:
    """What was read."""

    texts: dict[str, str] = field(default_factory=dict, repr=False)
    """By path, in the order of paths."""
    left_out: "Counter[str]" = field(default_factory=Counter)
    """Files that were not read, by reason."""

    def fingerprint(self) -> str:
        """A hash of all paths and texts."""
        seen = hashlib.sha256()
        for path, text in self.texts.items():
            for part in (path.encode(), text.encode()):
                seen.update(len(part).to_bytes(8, "big"))
                seen.update(part)
        return seen.hexdigest()


def read_tree(git: Git, commit: str, limits: Limits) -> Tree:
    """Read the texts of a commit: the smallest files first, as many as the limits allow.

    Left out, and counted: symbolic links and submodules, what `.gitignore` or `exclude` ignores,
    what is generated or vendored (by `.gitattributes`, else by its folder, name or content), what
    is too large, binary or in an unknown encoding.

    :raises SourceError: it has more files than we list, or git refuses it
    """
    tree = Tree()
    wanted = _wanted(git, commit, limits, tree.left_out)
    sizes = _sizes(git, wanted.values())
    small = sorted(
        (size, path)
        for path, identity in wanted.items()
        if (size := sizes.get(identity, -1)) in range(limits.file_bytes + 1)
    )
    tree.left_out[LARGE] += len(wanted) - len(small)
    texts: dict[str, str] = {}
    left = limits.text_bytes
    blobs = [(path, wanted[path], size) for size, path in small]
    for number, (path, data) in enumerate(_blobs(git, blobs)):
        if len(data) // 2 > left:  # half of it: UTF-8 needs half the bytes of UTF-16
            tree.left_out[OVER] += len(blobs) - number
            break
        text, reason = _text(path, data)
        cost = len(orjson.dumps({path: text})) if text else 0
        if reason or cost > left:
            tree.left_out[reason or OVER] += 1
        elif text:
            left -= cost
            texts[path] = text
    tree.texts = dict(sorted(texts.items()))
    tree.left_out += Counter()  # without those that are zero
    return tree


def _text(path: str, data: bytes) -> tuple[str, str]:
    """The text of a file, or the reason why it is left out; neither where it is blank."""
    try:
        text = text_of(data)
    except NotTextError as error:
        return "", str(error)
    if not text.strip():
        return "", ""
    return ("", GENERATED) if is_machine_made(path, text) else (text, "")


def _wanted(git: Git, commit: str, limits: Limits, left_out: "Counter[str]") -> dict[str, str]:
    """The identities of the files to look at, by path."""
    files = _listed(git, commit, left_out)
    if not files:
        return {}
    git.run("read-tree", commit)
    ignored = _ignored(git, files, limits.exclude)
    attributes = _attributes(git, files)
    wanted = {}
    for raw, identity in files.items():
        path = raw.decode("utf-8", "backslashreplace")
        said = attributes.get(raw, {})
        if _UNSAFE & {*path.split("/")}:
            left_out[ODD_PATHS] += 1
        elif raw in ignored:
            left_out[IGNORED] += 1
        elif said.get("linguist-generated", False):
            left_out[GENERATED] += 1
        elif said.get("linguist-vendored", bool(_VENDORED.search(path))):
            left_out[VENDORED] += 1
        else:
            wanted[path] = identity
    return wanted


def _listed(git: Git, commit: str, left_out: "Counter[str]") -> dict[bytes, str]:
    """Identities of all files by path; links and submodules are counted and left out."""
    files: dict[bytes, str] = {}
    for number, record in enumerate(git.records("ls-tree", "-r", "-z", commit)):
        if number == MAX_ENTRIES:
            raise SourceError(f"it has more than {MAX_ENTRIES:,} files")
        description, _, path = record.partition(b"\t")
        mode, _, identity = description.decode().split()
        if mode.startswith("100"):
            files[path] = identity
        else:
            left_out[LINKS if mode == "120000" else SUBMODULES] += 1
    return files


def _ignored(git: Git, files: Mapping[bytes, str], exclude: Sequence[str]) -> set[bytes]:
    """Files that patterns ignore; git itself matches them, within its time."""
    patterns = [path for path in files if path.rpartition(b"/")[2] == b".gitignore"]
    if patterns:
        # So git takes them from the index where the working tree has none.
        given = _input(git, (path + b"\0" for path in patterns))
        git.run("update-index", "--skip-worktree", "-z", "--stdin", given=given)
    asked = [*("ls-files", "-z", "-c", "-i"), "--exclude-per-directory=.gitignore"]
    return {*git.records(*asked, *(f"--exclude={pattern}" for pattern in exclude))}


def _attributes(git: Git, files: Mapping[bytes, str]) -> dict[bytes, dict[str, bool]]:
    """What `.gitattributes` say of files, where they say something."""
    if not any(path.rpartition(b"/")[2] == b".gitattributes" for path in files):
        return {}
    said: dict[bytes, dict[str, bool]] = {}
    given = _input(git, (path + b"\0" for path in files))
    names = ("linguist-generated", "linguist-vendored")
    records = git.records("check-attr", "--cached", "-z", "--stdin", *names, given=given)
    for path, name, value in zip(records, records, records, strict=True):
        if value != b"unspecified":
            said.setdefault(path, {})[name.decode()] = value not in (b"unset", b"false")
    return said


def _sizes(git: Git, identities: Iterable[str]) -> dict[str, int]:
    """Bytes of blobs by their identity; those that the server held back are not in it."""
    given = _input(git, (f"{one}\n".encode() for one in dict.fromkeys(identities)))
    sizes = {}
    with git.output("cat-file", "--batch-check", "--buffer", given=given) as output:
        while line := output.readline(_LINE):
            identity, kind, *size = line.decode().split()
            if kind == "blob":
                sizes[identity] = int(size[0])
    return sizes


def _blobs(git: Git, blobs: Sequence[tuple[str, str, int]]) -> Iterator[tuple[str, bytes]]:
    """Contents by path, one at a time, in the order given."""
    given = _input(git, (f"{identity}\n".encode() for _, identity, _ in blobs))
    with git.output("cat-file", "--batch", "--buffer", given=given) as output:
        for path, _, size in blobs:
            output.readline(_LINE)
            data = output.read(size)
            if len(data) != size or output.read(1) != b"\n":
                raise SourceError("git cat-file ended too early")
            yield path, data
        output.read(1)  # its end


def _input(git: Git, records: Iterable[bytes]) -> Path:
    """A file for a command to read: with a pipe, both sides could wait for each other."""
    path = git.folder / "given"
    with path.open("wb") as file:
        file.writelines(records)
    return path
