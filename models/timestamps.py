"""Reading when a document was published or changed, in the forms in which documents say it."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECONDS_FROM: Final = 1e11
"""A number from here on counts milliseconds: as seconds it would be after the year 5138."""
_LONGEST: Final = 64
"""Characters; no form of a date has more."""
_ISO: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?"
    r"\s?(?:[Zz]|([+-])(\d\d):?(\d\d)?)?)?",
    re.ASCII,
)
_MAIL: Final = re.compile(
    r"(?:[a-z]{3,9},? )? ?\d{1,2}[ -][a-z]{3,9}[ -]\d{2,4} \d\d:\d\d(?::\d\d)?"
    r"(?: (?:[+-]\d{4}|[a-z]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)


def read_time(value: Any) -> datetime | None:
    """The moment that a value names, in UTC; None where it names none.

    It may be a date of BSON or of Extended JSON, a text in the form of ISO 8601 or of RFC 822, or a
    number: of seconds since 1970 below 100,000,000,000, else of milliseconds. A moment without a
    zone is in UTC, and a day is its first moment. Only the years 1 to 9999 can be read.
    """
    try:
        found = _read(value)
        return found.astimezone(timezone.utc) if found else None
    except (ValueError, OverflowError, TypeError, LookupError):
        return None


def time_text(value: Any) -> str | None:
    """The same in the form of RFC 3339, in UTC: equal moments are equal texts."""
    moment = read_time(value)
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _read(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime.combine(value, time(), timezone.utc)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_number(value)
    if isinstance(value, str):
        return _of_text(value.strip()) if len(value) <= _LONGEST else None
    if isinstance(value, Mapping) and len(value) == 1:
        return _of_extended_json(*next(iter(value.items())))
    return None


def _of_extended_json(name: str, inner: Any) -> datetime | None:
    if name == "$date" and isinstance(inner, str):
        return _read(inner)
    if name == "$date":
        milliseconds = inner["$numberLong"] if isinstance(inner, Mapping) else inner
        return _EPOCH + timedelta(milliseconds=int(milliseconds))
    if name == "$timestamp":
        return _EPOCH + timedelta(seconds=int(inner["t"]))
    if name in ("$numberLong", "$numberInt", "$numberDouble"):
        return _of_number(float(inner))
    return None


def _of_number(number: float) -> datetime | None:
    if not math.isfinite(number):
        return None
    is_seconds = abs(number) < _MILLISECONDS_FROM
    return _EPOCH + (timedelta(seconds=number) if is_seconds else timedelta(milliseconds=number))


def _of_text(text: str) -> datetime | None:
    if match := _ISO.fullmatch(text):
        return _of_iso(*match.groups())
    if not _MAIL.fullmatch(text):
        return None
    moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _of_iso(
    year: str, month: str, day: str, hour: str | None, minute: str | None, second: str | None,
    fraction: str | None, sign: str | None, hours: str | None, minutes: str | None,
) -> datetime:  # fmt: skip
    beyond = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return datetime(
        int(year),
        int(month),
        int(day),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        int((fraction or "0")[:6].ljust(6, "0")),
        timezone(-beyond if sign == "-" else beyond),
    )
