"""The writes for a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.stored import Key
from models.version import Version


class NewChunk(NamedTuple):
    """A chunk that is to be embedded and written."""

    key: Key
    version: Version
    id: str
    payload: Mapping[str, Any]


class FieldsToSet(NamedTuple):
    """Payload fields that several points get; their vectors stay."""

    fields: Mapping[str, Any]
    """A null removes a field."""
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class UpsertPlan:
    """Brings a document up to a version."""

    key: Key
    version: Version
    new: tuple[NewChunk, ...]
    """Chunks that the store lacks, or has otherwise than their ids say."""
    updates: tuple[FieldsToSet, ...]
    """The changes of chunks that stay."""
    gone: tuple[str, ...]
    """Ids of chunks that are to be deleted."""
    record: Mapping[str, Any]
    """Payload of the record."""
    kept: int
    """Chunks that stay without being embedded again."""


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """Nothing but the version has changed."""

    key: Key
    version: Version
    kept: int


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Removes a document and leaves a tombstone."""

    key: Key
    version: Version
    gone: tuple[str, ...]


WritePlan = UpsertPlan | RefreshPlan | RemovalPlan
