"""Files of documents: JSON lines, and the output of `mongoexport`."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Final

from bson import json_util
from bson.errors import BSONError

from connectors.collect.links import clean_link, key_of
from connectors.collect.local_files import LARGEST, checked, lines_of, open_named
from connectors.collect.table import Table
from models import DOCUMENT_TYPES, entry_id_of
from models.collected import Collected, Finished, Reading, Refused
from models.shown import shown

_BLOCK: Final = 65_536
_MARKS: Final = re.compile(rb'[\\"{}\[\]]')
_DATES: Final = ("published_at", "updated_at")
_KEYS: Final = ("_id", "id", "link")
_EXTENDED: Final = json_util.JSONOptions(tz_aware=True, tzinfo=timezone.utc)
_ERRORS: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError, BSONError)

Decode = Callable[[str], Any]


def parse_jsonl(table: Table) -> "JsonSource":
    """The reader of a file with a JSON object on each line; mistakes are noted in the table."""
    return _parse(table, json.loads, arrays=False)


def parse_mongoexport(table: Table) -> "JsonSource":
    """The reader of what `mongoexport` wrote, with --jsonArray or without; mistakes are noted."""
    return _parse(table, _extended, arrays=True)


def _parse(table: Table, decode: Decode, arrays: bool) -> "JsonSource":
    return JsonSource(
        path=table.path("path"),
        author=table.author,
        type=table.choice("type", "" if not arrays else None, tuple(DOCUMENT_TYPES)),
        id_field=table.text("id", ""),
        decode=decode,
        arrays=arrays,
    )


def _extended(text: str) -> Any:
    return json_util.loads(text, json_options=_EXTENDED)


@dataclass(frozen=True, slots=True)
class JsonSource:
    """Reads a file of documents, in the shape of the collection that they are for.

    Parallelism: one document at a time. Delivery: every document at each reading, since the writer
    compares; what repeats after a kill is the reading. A line that cannot be read is reported with
    its number and costs no other, but then the listing is not whole. Of two documents with the same
    key the first one counts.
    """

    path: Path
    author: str
    """Of documents that name none."""
    type: str = ""
    """Of documents that name none in a field `type`."""
    id_field: str = ""
    """The field that identifies a document; empty: `_id`, else `id`, else `link`."""
    decode: Decode = json.loads
    arrays: bool = False
    """Whether the file may be one JSON array."""

    def read(self, state: Mapping[str, str]) -> Iterator[Reading]:
        """Every document of the file.

        :raises SourceError: there is no such file
        """
        del state  # a local file costs little to read, and comparing costs nothing to others
        whole = True
        seen: set[tuple[str, str]] = set()
        with open_named(self.path) as file:
            for line, text in self._texts(file):
                one = self._document(line, text)
                if isinstance(one, Collected) and (one.type, one.key) in seen:
                    one = self._refused(line, "its key is that of an earlier one")
                whole = whole and isinstance(one, Collected)
                seen.add((one.type, one.key))
                yield one
        yield Finished({}, whole=whole)

    def _texts(self, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
        """The text of each document with its line; None where it is too long."""
        beginning = file.read(_BLOCK).removeprefix(b"\xef\xbb\xbf")
        file.seek(0)
        if self.arrays and beginning.lstrip().startswith(b"["):
            return objects_of(file)
        return ((n, line) for n, line in lines_of(file) if line is None or line.strip())

    def _document(self, line: int, text: bytes | None) -> Collected | Refused:
        if text is None:
            return self._refused(line, f"it is longer than {LARGEST:,} bytes")
        try:
            row = self.decode(text.decode("utf-8-sig"))
            if not isinstance(row, dict):
                raise TypeError("it is no JSON object")
            one = self._collected(row)
        except UnicodeDecodeError:
            return self._refused(line, "it is not UTF-8")
        except _ERRORS as error:
            return self._refused(line, str(error) or type(error).__name__)
        if isinstance(one, Refused):
            return self._refused(line, one.reason)
        return one

    def _collected(self, row: dict[str, Any]) -> Collected | Refused:
        type_ = self.type or row.pop("type", "")
        if type_ not in DOCUMENT_TYPES:
            raise ValueError(f"type must be one of {', '.join(DOCUMENT_TYPES)}")
        names = (self.id_field,) if self.id_field else _KEYS
        name = next((name for name in names if row.get(name) not in (None, "")), None)
        if name is None:
            raise ValueError(f"it has no {' or '.join(names)}")
        link = clean_link(row[name]) if name == "link" and isinstance(row[name], str) else ""
        key = key_of(link) if link else entry_id_of(row[name])
        fields = {field: value for field, value in row.items() if field != "_id"}
        for date in _DATES:
            if isinstance(fields.get(date), str):
                fields[date] = _date(fields[date])
        if not fields.get("author_id") and not fields.get("owner_id"):
            fields["owner_id" if type_ == "repositories" else "author_id"] = self.author
        return checked(type_, key, fields)

    def _refused(self, line: int, reason: str) -> Refused:
        place = f"{self.path.name}:{line}"
        return Refused(self.type or "documents", place, f"{place}: {shown(reason, 200)}")


def objects_of(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The objects of one JSON array with the lines where they begin; None for one too long.

    They are told apart by their brackets alone, so one that is broken inside costs no other.
    """
    objects = _Objects()
    while block := file.read(_BLOCK):
        yield from objects.within(block)
    if objects.depth > 0:
        yield objects.line, b"the array has no end"


class _Objects:
    """Finds objects in an array that is read block by block."""

    def __init__(self) -> None:
        self.depth = 0
        """Brackets that are open: 1 within the array, 2 or more within an object."""
        self.line = 1
        self._text = bytearray()
        self._began = 1
        self._quoted = False
        self._skip = -1

    def within(self, block: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The objects that end in the next block."""
        start = counted = 0
        for at, mark in self._brackets(block):
            opens = mark in b"{["
            self.depth += 1 if opens else -1
            if opens and self.depth == 2:
                self.line += block.count(b"\n", counted, at)
                self._began, counted, start = self.line, at, at
                self._text.clear()
            elif not opens and self.depth == 1:
                self._text += block[start : at + 1]
                yield self._began, bytes(self._text) if len(self._text) <= LARGEST else None
                self._text.clear()
        self.line += block.count(b"\n", counted)
        if self.depth > 1 and len(self._text) <= LARGEST:
            self._text += block[start:]

    def _brackets(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Brackets outside of strings, with their places."""
        for found in _MARKS.finditer(block):
            at, mark = found.start(), found[0]
            if at == self._skip:
                continue
            if mark == b"\\":
                self._skip = at + 1
            elif mark == b'"':
                self._quoted = not self._quoted
            elif not self._quoted:
                yield at, mark
        self._skip -= len(block)


def _date(text: str) -> datetime:
    """An ISO 8601 date; without an offset it is in UTC.

    :raises ValueError: it is none
    """
    date = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
