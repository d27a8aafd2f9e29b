"""Points whose vectors travel as bytes are the points that qdrant-client would send."""

from typing import Any

import numpy as np
import pytest
from qdrant_client import grpc
from qdrant_client import models as q
from qdrant_client.conversions.conversion import RestToGrpc

from connectors.qdrant.embedded.conversions import points_of
from connectors.qdrant.embedded.packed import packed_numbers
from connectors.qdrant.wire import in_lists, point_message

ID = "12345678-1234-5678-1234-567812345678"
SPARSE = q.SparseVector(indices=[1, 2**32 - 1], values=[0.5, 1.25])
PAYLOAD = {"path": "Content", "version": 3, "tags": ["a", "b"], "none": None}
ROW = np.array([0.1, -0.0, 1e-40, 3.4e38], dtype=np.float32)


def point(**vectors: Any) -> q.PointStruct:
    return q.PointStruct.model_construct(id=ID, vector=vectors, payload=PAYLOAD)


@pytest.mark.parametrize(
    "row",
    [ROW, ROW[::2], ROW.astype(">f4"), ROW.astype(np.float64), np.zeros(384, np.float32)],
    ids=["plain", "not contiguous", "big-endian", "float64", "long"],
)
def test_a_numpy_row_is_sent_as_the_list_of_its_numbers(row: Any) -> None:
    listed = point(dense=row.astype(np.float32).tolist(), sparse=SPARSE)
    assert point_message(point(dense=row, sparse=SPARSE)) == RestToGrpc.convert_point_struct(listed)


@pytest.mark.parametrize("vectors", [{}, {"dense": [1.0, 2.0]}, {"sparse": SPARSE}])
def test_a_point_without_numpy_rows_is_sent_as_before(vectors: dict[str, Any]) -> None:
    assert point_message(point(**vectors)) == RestToGrpc.convert_point_struct(point(**vectors))


def test_the_store_reads_every_bit_that_was_sent() -> None:
    [read] = points_of([point_message(point(dense=ROW, sparse=SPARSE))])
    assert np.asarray(read.vectors["dense"], np.float32).tobytes() == ROW.tobytes()
    assert read.vectors["sparse"] == (SPARSE.indices, SPARSE.values)
    assert read.payload == PAYLOAD


def test_a_vector_with_more_in_it_than_numbers_is_not_read_as_bytes() -> None:
    message = grpc.DenseVector(data=[1.0, 2.0])
    unknown = b"\x10\x05"  # field 2, of a client that is newer
    assert packed_numbers(message) == np.array([1, 2], "<f4").tobytes()
    later = grpc.DenseVector.FromString(message.SerializeToString() + unknown)
    assert packed_numbers(later) is None
    [read] = points_of([_point(later)])
    assert list(read.vectors["dense"]) == [1.0, 2.0]


def test_numbers_that_are_not_packed_are_read_too() -> None:
    loose = b"\x0d\x00\x00\x80\x3f\x0d\x00\x00\x00\x40"
    [read] = points_of([_point(grpc.DenseVector.FromString(loose))])
    assert list(read.vectors["dense"]) == [1.0, 2.0]


def test_a_store_in_memory_gets_lists() -> None:
    made = in_lists(point(dense=ROW, sparse=SPARSE))
    assert made.vector == {"dense": ROW.tolist(), "sparse": SPARSE}


def _point(dense: Any) -> Any:
    vectors = grpc.NamedVectors(vectors={"dense": grpc.Vector(dense=dense)})
    return grpc.PointStruct(id=grpc.PointId(num=1), vectors=grpc.Vectors(vectors=vectors))
