"""The YAML at the head of a Markdown file, as written by strangers."""

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timezone
from typing import Any, Final

import yaml
from typing_extensions import override

_HEAD: Final = re.compile(
    r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_LONGEST: Final = 16_000
_TAGS: Final = 100


class FrontMatterError(ValueError):
    """The head of a file cannot be read; the text is the reason."""


class _Loader(yaml.SafeLoader):
    """Plain values only, and no aliases: a few lines of them unfold to gigabytes."""

    @override
    def compose_node(self, parent: "yaml.Node | None", index: Any) -> "yaml.Node | None":
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def split_front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    """The head of a Markdown file, with names in small letters, and its body.

    :raises FrontMatterError: there is a head that is no YAML mapping of plain values
    """
    if not text.startswith("---"):
        return {}, text
    text = text.replace("\r\n", "\n")
    found = _HEAD.match(text[:_LONGEST])
    if found is None:
        if len(text) > _LONGEST and re.match(r"---[ \t]*\n\S+:", text):
            raise FrontMatterError(f"its head does not end within {_LONGEST:,} characters")
        return {}, text  # a thematic break
    try:
        head = yaml.load(found[1], _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise FrontMatterError(" ".join(str(error).split()) or type(error).__name__) from error
    if head is not None and not isinstance(head, dict):
        raise FrontMatterError("its head is no mapping")
    named = {str(name).lower(): value for name, value in (head or {}).items()}
    return named, text[found.end() :]


def text_of(head: Mapping[str, Any], *names: str) -> str:
    """The first of several fields that has a text; empty if none has."""
    for name in names:
        value = head.get(name)
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        if plain and (text := " ".join(str(value).split())):
            return text
    return ""


def texts_of(head: Mapping[str, Any], *names: str) -> list[str]:
    """The texts of several fields, each a list or one text with commas, every text once."""
    found: dict[str, None] = {}
    for name in names:
        value = head.get(name)
        many = value.split(",") if isinstance(value, str) else value
        for one in many if isinstance(many, list) else ():
            if isinstance(one, str | int) and (text := " ".join(str(one).split())):
                found[text] = None
    return list(found)[:_TAGS]


def date_of(head: Mapping[str, Any], *names: str) -> datetime | None:
    """The date of the first field that has one; without an offset it is in UTC."""
    for name in names:
        value = head.get(name)
        try:
            if isinstance(value, str):
                value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
            if isinstance(value, date) and not isinstance(value, datetime):
                value = datetime.combine(value, time())
            if isinstance(value, datetime):
                aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
                return aware.astimezone(timezone.utc)
        except (ValueError, OverflowError):
            continue
    return None
