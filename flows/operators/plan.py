"""Index planning, pure: from what is stored and a change to the writes between them."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from typing_extensions import assert_never

from models.fresh import MAY_DIFFER, TEXTS, chunk_by_record, difference, fresh_points
from models.plans import FieldsToSet, NewChunk, RefreshPlan, RemovalPlan, UpsertPlan, WritePlan
from models.prepared import Removal, Upsert
from models.stored import Key, Stored
from models.version import Version

_NOT_COMPARED = MAY_DIFFER | TEXTS.keys()
_VECTOR_HANGS_ON = {"chunk_hash", "model"}
"""A chunk that differs in one of these is embedded again."""


def plan(change: Upsert | Removal, stored: Stored, model: str) -> WritePlan | None:
    """The writes that bring a document from what is stored to a change.

    :param model: name of the embedder
    :returns: None where something newer is stored
    """
    event = change.event
    version = event.version if event.fenced else max(event.version, stored.version)
    if version < stored.version:
        return None
    if isinstance(change, Removal):
        return RemovalPlan(change.key, version, stored.present)
    if isinstance(change, Upsert):
        return _upsert(change, version, stored, model)
    assert_never(change)


def _upsert(
    change: Upsert, version: Version, stored: Stored, model: str
) -> UpsertPlan | RefreshPlan:
    fresh = fresh_points(change, model)
    record = stored.record or {}
    have = stored.chunks
    if have is None:
        have = {id_: chunk_by_record(record, fresh.chunks.get(id_, {})) for id_ in stored.named}
    new: list[NewChunk] = []
    changed: list[tuple[dict[str, Any], str]] = []
    for id_, payload in fresh.chunks.items():
        fields = difference(payload, have.get(id_, {}), _NOT_COMPARED)
        if fields.keys() & _VECTOR_HANGS_ON:
            new.append(NewChunk(change.key, version, id_, payload))
        elif fields:
            changed.append((fields, id_))
    gone = tuple(id_ for id_ in have if id_ not in fresh.chunks)
    kept = len(fresh.chunks) - len(new)
    same = not (new or changed or gone or difference(fresh.record, record, _NOT_COMPARED))
    # A repair does not trust what it cannot see: the text of the record is not read.
    if same and change.event.op != "repair":
        return RefreshPlan(change.key, version, kept)
    return UpsertPlan(
        change.key, version, tuple(new), _by_fields(changed), gone, fresh.record, kept
    )


def is_as_recorded(stored: Stored) -> bool:
    """Whether the chunks that a record names, all of which were listed, are there as it says."""
    record, listed = stored.record or {}, stored.chunks or {}
    return all(
        id_ in listed
        and not difference(chunk_by_record(record, listed[id_]), listed[id_], _NOT_COMPARED)
        for id_ in stored.named
    )


def _by_fields(changed: Iterable[tuple[dict[str, Any], str]]) -> tuple[FieldsToSet, ...]:
    """The same fields for several chunks are one operation: mostly they are those of the document,
    and so are the same for all.
    """
    ids: dict[str, list[str]] = {}
    fields_of: dict[str, dict[str, Any]] = {}
    for fields, id_ in changed:
        name = json.dumps(fields)
        fields_of[name] = fields
        ids.setdefault(name, []).append(id_)
    return tuple(FieldsToSet(fields, ids[name]) for name, fields in fields_of.items())


def collapse(run: Iterable[Upsert | Removal]) -> dict[Key, Upsert | Removal]:
    """The newest change of each document; of equal versions, the last.

    A change without a version of its own is as new as the newest one before it, and takes its
    version over.
    """
    newest: dict[Key, Upsert | Removal] = {}
    for change in run:
        other = newest.get(change.key)
        if other is None or change.event.version >= other.event.version:
            newest[change.key] = change
        elif not change.event.fenced:
            event = change.event._replace(version=other.event.version)
            newest[change.key] = replace(change, event=event)
    return newest
