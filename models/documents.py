"""The three document types, parsed with tolerance.

To add a type, add one subclass of `Document` here: its collection, queue routing, cleaning,
chunking and Qdrant collections follow from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from typing_extensions import Self, override

from models.timestamps import time_text

_MAX_DEPTH = 32
_LONGEST_TAG = 128
_MOST_TAGS = 64
_PROSE_FILES = {".md", ".mdx", ".markdown", ".rst", ".txt", ".adoc", ".ipynb"}

DOCUMENT_TYPES: dict[str, type["Document"]] = {}
"""Every registered type by its name, which is also the name of its MongoDB collection."""


@dataclass(frozen=True, slots=True)
class Section:
    """One text of a document."""

    path: str
    """Where the text stands in the document's content: a key, a file's path, or empty."""
    text: str
    verbatim: bool = False
    """True for what must keep every character (files of a repository)."""

    @property
    def code(self) -> bool:
        """Whether the text is to be cut as source code rather than as prose."""
        return self.verbatim and PurePosixPath(self.path).suffix.lower() not in _PROSE_FILES


@dataclass(frozen=True)
class Document:
    """A document as the features flow sees it; fields it does not know are ignored.

    Subclasses name their collection: `class Post(Document, collection="posts")`.
    """

    type: ClassVar[str]

    entry_id: str
    sections: tuple[Section, ...]
    author_id: str | None = None
    platform: str | None = None
    link: str | None = None
    name: str | None = None
    published_at: str | None = None
    """RFC 3339, in UTC; None where the document has none that can be read."""
    updated_at: str | None = None
    language: str | None = None
    tags: tuple[str, ...] = ()

    def __init_subclass__(cls, collection: str) -> None:
        cls.type = collection
        DOCUMENT_TYPES[collection] = cls

    @classmethod
    def parse(cls, entry_id: str, body: Mapping[str, Any]) -> Self:
        """Read a document from the flat body of a message.

        :param body: decoded JSON; optional fields may be missing, null or of another type
        :raises ValueError: no content, content that is neither text nor a mapping, or nested
            deeper than 32 levels
        """
        return cls(
            entry_id=entry_id,
            sections=cls.read_sections(body),
            author_id=_scalar(body.get("author_id")),
            platform=_scalar(body.get("platform")),
            link=_scalar(body.get("link")),
            name=_scalar(body.get("name")),
            published_at=time_text(body.get("published_at")),
            updated_at=time_text(body.get("updated_at")),
            language=_language(body),
            tags=_tags(body.get("tags")),
        )

    @classmethod
    def read_sections(cls, body: Mapping[str, Any]) -> tuple[Section, ...]:
        """The texts of the content, in the order in which they are to be read."""
        return tuple(Section(path, text) for path, text in _texts(_content(body)))

    def above(self, section: Section) -> tuple[str, ...]:
        """What every chunk of a section stands under, from the outermost to the innermost."""
        return ()

    def metadata(self) -> dict[str, Any]:
        """The fields of the document that the payload of its record and chunks repeats."""
        return {
            "entry_id": self.entry_id,
            "type": self.type,
            "author_id": self.author_id,
            "platform": self.platform,
            "link": self.link,
            "name": self.name,
            "published_at": self.published_at,
            "updated_at": self.updated_at,
            "language": self.language,
            "tags": list(self.tags) or None,
        }


class Post(Document, collection="posts"):
    """A short text on a social platform."""


class Article(Document, collection="articles"):
    """A long text with a title, which is also its name."""

    _ORDER: ClassVar = {"Title": 0, "Subtitle": 1, "Content": 2}

    @override
    @classmethod
    def parse(cls, entry_id: str, body: Mapping[str, Any]) -> Self:
        content = body.get("content")
        title = content.get("Title") if isinstance(content, Mapping) else None
        return super().parse(entry_id, {"name": title, **body})

    @override
    @classmethod
    def read_sections(cls, body: Mapping[str, Any]) -> tuple[Section, ...]:
        content = _content(body)
        if isinstance(content, Mapping):
            keys = [key for key in content if key != "language"]
            keys.sort(key=lambda key: cls._ORDER.get(key, len(cls._ORDER)))
            content = {key: content[key] for key in keys}
        return tuple(Section(path, text) for path, text in _texts(content))

    @override
    def above(self, section: Section) -> tuple[str, ...]:
        titles = [one.text for one in self.sections if one.path == "Title" != section.path]
        return tuple(" ".join(title.split()) for title in titles)


class Repository(Document, collection="repositories"):
    """Files of a code repository; every character of them is kept."""

    @override
    @classmethod
    def parse(cls, entry_id: str, body: Mapping[str, Any]) -> Self:
        owner = body.get("author_id") or body.get("owner_id")
        return super().parse(entry_id, {**body, "author_id": owner})

    @override
    @classmethod
    def read_sections(cls, body: Mapping[str, Any]) -> tuple[Section, ...]:
        return tuple(Section(path, text, verbatim=True) for path, text in _texts(_content(body)))

    @override
    def above(self, section: Section) -> tuple[str, ...]:
        return (section.path,) if section.path else ()


def _content(body: Mapping[str, Any]) -> Any:
    content = body.get("content")
    if content is None:
        raise ValueError("the document lacks its content")
    if not isinstance(content, str | Mapping):
        raise ValueError(f"content must be text or a mapping, not {type(content).__name__}")
    return content


def _texts(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text below `value` with its path; nothing for null, true and false."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"content is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, child in items:
            # "/" inside a key is legal; a clash of paths only shares the occurrence count of ids
            below = _well_formed(str(key))
            yield from _texts(child, f"{path}/{below}" if path else below, depth + 1)
    elif value is not None and not isinstance(value, bool):
        text = _well_formed(str(value))
        if text.strip():
            yield path, text


def _scalar(value: Any) -> str | None:
    """Metadata as text: null stays null, an ObjectId in Extended JSON becomes its hex."""
    if value is None or isinstance(value, str):
        return None if value is None else _well_formed(value)
    if isinstance(value, Mapping) and isinstance(value.get("$oid"), str):
        return _well_formed(value["$oid"])
    return _well_formed(str(value))


def _language(body: Mapping[str, Any]) -> str | None:
    """As the document says it, or its content: in small letters."""
    content = body.get("content")
    inner = content.get("language") if isinstance(content, Mapping) else None
    for said in (body.get("language"), inner):
        if isinstance(said, str) and said.strip():
            return _well_formed(said.strip().lower()[:_LONGEST_TAG])
    return None


def _tags(value: Any) -> tuple[str, ...]:
    """The texts of a list, or the only one; each once, without those that are no labels."""
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    labels = (_well_formed(one.strip()) for one in values if isinstance(one, str))
    kept = dict.fromkeys(one for one in labels if 0 < len(one) <= _LONGEST_TAG)
    return tuple(kept)[:_MOST_TAGS]


def _well_formed(text: str) -> str:
    """Lone surrogates, legal in JSON but in no UTF-8 payload, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
