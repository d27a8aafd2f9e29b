"""A working day in a minute: what authors do to documents that are already stored.

Each document is edited at most once, so that the time from its write to its new state in the store
can be measured. New documents are in Chinese, French and several programming languages.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pymongo.database import Database

from examples.new_documents import NEW_DOCUMENTS

Document = dict[str, Any]
Kind = Literal["updated", "replaced", "deleted", "added"]

_ADDED_SENTENCE: Final = (
    "Editor's note: this paragraph was added while the pipeline was running, in order to show that "
    "one more sentence in the middle of a long text does not embed the rest of the text again."
)
_ADDED_FUNCTION: Final = '''

def added_by_the_demo(values: list[float]) -> float:
    """Return the median of `values`, which is how the demo sums up its latencies."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
'''

_EVERY: Final = 6
"""One document in this many is edited."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One write to one document."""

    kind: Kind
    """The deed of the author."""
    collection: str
    """Type of the document."""
    identity: Any
    """Its `_id`."""
    apply: Callable[[Database[Document]], object]
    """Makes the write; returns when the server has committed it."""


def edits(documents: Iterable[tuple[str, Document]]) -> Iterator[Edit]:
    """Yield edits of some of `documents`, mixed with new documents of other languages."""
    chosen = list(itertools.islice(documents, 0, None, _EVERY))
    added = iter(NEW_DOCUMENTS)
    pace = max(1, len(chosen) // len(NEW_DOCUMENTS))
    for index, (collection, document) in enumerate(chosen):
        yield _edit(collection, document, index)
        if index % pace == 0:
            yield from (_add(*new) for new in itertools.islice(added, 1))
    yield from (_add(*new) for new in added)


def _edit(collection: str, document: Document, index: int) -> Edit:
    match index % 8:
        case 0:
            return _delete(collection, document)
        case 1:
            return _replace(collection, document)
        case 2:
            # Where a document is found, not what it says: nothing has to be embedded.
            return _update(collection, document, {"link": f"https://example.com/moved/{index}"})
        case _:
            return _update(collection, document, {"content": _edited(document["content"])})


def _update(collection: str, document: Document, fields: Document) -> Edit:
    key = {"_id": document["_id"]}
    return Edit(
        "updated",
        collection,
        document["_id"],
        lambda database: database[collection].update_one(key, {"$set": fields}),
    )


def _replace(collection: str, document: Document) -> Edit:
    key = {"_id": document["_id"]}
    kept = {name: value for name, value in document.items() if name not in {"_id", "image"}}
    replacement = {**kept, "content": _halved(document["content"])}
    return Edit(
        "replaced",
        collection,
        document["_id"],
        lambda database: database[collection].replace_one(key, replacement),
    )


def _delete(collection: str, document: Document) -> Edit:
    key = {"_id": document["_id"]}
    return Edit(
        "deleted",
        collection,
        document["_id"],
        lambda database: database[collection].delete_one(key),
    )


def _add(collection: str, document: Document) -> Edit:
    # A copy, since the driver adds an `_id` to what it is given.
    return Edit(
        "added",
        collection,
        document["_id"],
        lambda database: database[collection].insert_one(dict(document)),
    )


def _edited(content: str | Document) -> str | Document:
    """Add a sentence in the middle of a text, or a function at the end of one source file."""
    if isinstance(content, str):
        return _with_sentence(content)
    if "Content" in content:
        return {**content, "Content": _with_sentence(content["Content"])}
    path = next(iter(content))
    return {**content, path: content[path] + _ADDED_FUNCTION}


def _with_sentence(text: str) -> str:
    paragraphs = text.split("\n\n")
    middle = (len(paragraphs) + 1) // 2
    return "\n\n".join([*paragraphs[:middle], _ADDED_SENTENCE, *paragraphs[middle:]])


def _halved(content: str | Document) -> str | Document:
    """Keep the first half: of the text, or of the files."""
    if isinstance(content, str):
        return content[: len(content) // 2]
    if "Content" in content:
        return {**content, "Content": content["Content"][: len(content["Content"]) // 2]}
    return dict(itertools.islice(content.items(), (len(content) + 1) // 2))
