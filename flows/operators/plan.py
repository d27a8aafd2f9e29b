"""Index planning, pure: from what is stored and a change to the writes between them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from models import Document, Version
from models.prepared import Prepared
from models.stored import Key, Stored, WritePlan

METADATA_FIELDS = ("author_id", "platform", "link", "name")


def plan(change: Prepared, stored: Stored, model: str) -> WritePlan | None:
    """The writes that bring a document from what is stored to a change.

    :param model: name of the embedder; chunks of another one are embedded again
    :returns: None where something newer is stored
    """
    event = change.event
    version = event.version if event.fenced else max(event.version, stored.version)
    if version < stored.version:
        return None
    key = key_of(change)
    record = stored.record or {}
    old = stored.chunks
    document = change.document
    if document is None:
        return removal(key, version, old if old is not None else record.get("chunk_ids", ()))

    metadata = document.metadata()
    ids = tuple(chunk.id for chunk in change.chunks)
    if old is None:
        same_model = record.get("model") == model
        old = {
            id_: {**record, "position": position, "model": model if same_model else None}
            for position, id_ in enumerate(record.get("chunk_ids", ()))
        }
    upserts = tuple(c for c in change.chunks if c.id not in old or old[c.id]["model"] != model)
    written = {chunk.id for chunk in upserts}
    kept = [chunk for chunk in change.chunks if chunk.id not in written]
    retagged = tuple(c.id for c in kept if _tags(old[c.id]) != _tags(metadata))
    moved = {c.id: c.position for c in kept if old[c.id]["position"] != c.position}
    alive = set(ids)
    deletes = tuple(id_ for id_ in old if id_ not in alive)
    hash_ = content_hash(document)
    return WritePlan(
        key=key,
        version=version,
        upserts=upserts,
        metadata=metadata,
        model=model,
        retagged=retagged,
        moved=moved,
        deletes=deletes,
        kept=len(kept),
        record={
            **metadata,
            "cleaned_content": cleaned_content(document),
            "content_hash": hash_,
            "chunk_ids": list(ids),
            "model": model,
            **version.fields(),
        },
        refresh_only=(
            event.op != "repair"
            and not (upserts or retagged or moved or deletes)
            and record.get("content_hash") == hash_
            and record.get("model") == model
            and list(record.get("chunk_ids", ())) == list(ids)
            and _tags(record) == _tags(metadata)
        ),
    )


def collapse(run: Iterable[Prepared]) -> dict[Key, Prepared]:
    """The newest change of each document; of equal versions, the last.

    A change without a version of its own is as new as the newest one before it, and takes its
    version over.
    """
    newest: dict[Key, Prepared] = {}
    for change in run:
        key = key_of(change)
        other = newest.get(key)
        if other is None or change.event.version >= other.event.version:
            newest[key] = change
        elif not change.event.fenced:
            event = change.event._replace(version=other.event.version)
            newest[key] = replace(change, event=event)
    return newest


def leftovers_of(key: Key, stored: Stored) -> list[tuple[Key, str]]:
    """Chunks that no record names: a change was half written, and is older than what came since."""
    named = set((stored.record or {}).get("chunk_ids", ()))
    return [(key, id_) for id_ in stored.chunks or () if id_ not in named]


def removal(key: Key, version: Version, chunk_ids: Iterable[str]) -> WritePlan:
    """The writes that remove a document."""
    return WritePlan(key=key, version=version, deletes=tuple(chunk_ids))


def key_of(change: Prepared) -> Key:
    """Which document a change is of."""
    return Key(change.event.type, change.event.entry_id)


def _tags(payload: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(payload.get(field) for field in METADATA_FIELDS)


def cleaned_content(document: Document) -> str:
    """The text of a record: all sections, verbatim ones below their path."""
    return "\n\n".join(
        f"{section.path}\n{section.text}" if section.verbatim else section.text
        for section in document.sections
    )


def content_hash(document: Document) -> str:
    """SHA-256, in hex, over paths and texts of all sections."""
    digest = sha256()
    for section in document.sections:
        for part in (section.path.encode(), section.text.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
