"""Points as messages of Qdrant's gRPC interface, with dense vectors copied as bytes.

qdrant-client and protobuf look at each number of a vector, which takes longer than to store it.
"""

from typing import Any

import numpy as np
from qdrant_client import models as q
from qdrant_client.conversions.conversion import RestToGrpc

from connectors.qdrant.embedded.packed import head


def point_message(point: q.PointStruct) -> Any:
    """The message of a point.

    :param point: its dense vectors are numpy rows of float32, or lists
    """
    rows, others = _parted(point.vector)
    message = RestToGrpc.convert_point_struct(_with(point, others))
    for name, row in rows.items():
        data = row.astype("<f4", copy=False).tobytes()
        message.vectors.vectors.vectors[name].dense.MergeFromString(head(row.size) + data)
    return message


def in_lists(point: q.PointStruct) -> q.PointStruct:
    """The same point without numpy rows, as a store in memory takes it."""
    rows, others = _parted(point.vector)
    if not rows:
        return point
    return _with(point, {**{name: row.tolist() for name, row in rows.items()}, **others})


def _parted(vectors: Any) -> tuple[dict[str, Any], Any]:
    """The numpy rows, and all else."""
    if not isinstance(vectors, dict):
        return {}, vectors
    rows = {name: one for name, one in vectors.items() if isinstance(one, np.ndarray)}
    return rows, {name: one for name, one in vectors.items() if name not in rows}


def _with(point: q.PointStruct, vectors: Any) -> q.PointStruct:
    return q.PointStruct.model_construct(id=point.id, vector=vectors, payload=point.payload)
