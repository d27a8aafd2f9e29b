"""Tombstones of one place for another one."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant.names import Collections
from connectors.qdrant.patient import PatientClient
from connectors.qdrant.requests import version_in

_AT_ONCE: Final = 256


def copy_tombstones(client: QdrantClient, source: Collections, target: Collections) -> int:
    """Take over what is gone, as far as it is newer than what is known of it; how many that were.

    A dead letter may be older than the delete of its document: in a place without the tombstone,
    its replay would bring the document back.
    """
    patient = PatientClient(client)
    copied = 0
    for some in _batches(patient.scroll(source.tombstones, None, True)):
        known = patient.payloads(target.tombstones, list(some))
        newer = [
            q.PointStruct(id=id_, vector={}, payload=payload)
            for id_, payload in some.items()
            if version_in(payload) > version_in(known.get(id_))
        ]
        patient.upsert(target.tombstones, newer)
        copied += len(newer)
    return copied


def _batches(points: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, dict[str, Any]]]:
    while some := dict(islice(points, _AT_ONCE)):
        yield some
