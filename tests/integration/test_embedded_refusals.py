"""What other clients may send to the embedded store, and a Qdrant server refuses."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_client import QdrantClient
from qdrant_client import grpc as wire
from qdrant_client import models as q

from connectors.qdrant import QdrantSettings, open_client
from connectors.qdrant.embedded import StoreFolder, stop
from connectors.qdrant.patient import PatientClient
from tests.chaos.harness import kill_store

REFUSED = grpc.StatusCode.INVALID_ARGUMENT
UNSERVED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "qdrant"
    stop(StoreFolder(tmp_path / "qdrant"))


@pytest.fixture
def client(path: Path) -> Iterator[QdrantClient]:
    with closing(open_client(QdrantSettings(path=path), timeout=10)) as client:
        client.create_collection(
            "c",
            vectors_config={"dense": q.VectorParams(size=3, distance=q.Distance.COSINE)},
            sparse_vectors_config={"sparse": q.SparseVectorParams(modifier=q.Modifier.IDF)},
        )
        client.upsert("c", [good(1)], wait=True)
        yield client


def good(number: int) -> q.PointStruct:
    vectors = {"dense": [1.0, 2.0, 3.0], "sparse": q.SparseVector(indices=[5, 2], values=[1, 2])}
    return q.PointStruct(id=number, vector=vectors, payload={"number": number})


def sparse(indices: list[int], values: list[float]) -> Any:
    return wire.Vector(sparse=wire.SparseVector(indices=indices, values=values))


def in_old_form(indices: list[int], values: list[float]) -> Any:
    return wire.Vector(data=values, indices=wire.SparseIndices(data=indices))


def points(name: str, vector: Any) -> list[Any]:
    """A good point, and one with this vector."""
    named = wire.Vectors(vectors=wire.NamedVectors(vectors={name: vector}))
    return [
        wire.PointStruct(id=wire.PointId(num=2)),
        wire.PointStruct(id=wire.PointId(num=3), vectors=named),
    ]


def refusal(call: Any, request: Any) -> Any:
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=10)
    return refused.value.code()


def is_as_before(path: Path) -> None:
    """The same points, also after a kill, and every kind of request goes on."""
    for _ in range(2):
        with closing(open_client(QdrantSettings(path=path), timeout=10)) as client:
            assert PatientClient(client).call(lambda there: there.count("c").count) == 1
            client.upsert("c", [good(1)], wait=True)
            query = q.SparseVector(indices=[5], values=[1.0])
            assert [hit.id for hit in client.query_points("c", query, using="sparse").points] == [1]
        kill_store(path)


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        ("sparse", sparse([5, 2, 3], [0.5, 0.6])),
        ("sparse", sparse([5], [0.5, 0.6])),
        ("sparse", sparse([5, 5], [0.5, 0.6])),
        ("sparse", in_old_form([5, 2, 3], [0.5, 0.6])),
        ("other", wire.Vector(dense=wire.DenseVector(data=[1, 2, 3]))),
        ("dense", wire.Vector(dense=wire.DenseVector(data=[1, 2]))),
        ("dense", sparse([5], [0.5])),
        ("sparse", wire.Vector(dense=wire.DenseVector(data=[1, 2, 3]))),
    ],
    ids=["fewer", "more", "twice", "old form", "name", "size", "no dense one", "no sparse one"],
)
@pytest.mark.parametrize("how", ["upsert", "batch", "vectors"])
def test_a_vector_that_is_refused_leaves_nothing_in_the_log(
    client: QdrantClient, path: Path, name: str, vector: Any, how: str
) -> None:
    """The engine writes its log first: what it fails on afterwards it fails on at each start."""
    some = points(name, vector)
    service = client._client.grpc_points
    if how == "upsert":
        code = refusal(service.Upsert, wire.UpsertPoints(collection_name="c", points=some))
    elif how == "batch":
        change = wire.PointsUpdateOperation.PointStructList(points=some)
        operations = [wire.PointsUpdateOperation(upsert=change)]
        request = wire.UpdateBatchPoints(collection_name="c", operations=operations)
        code = refusal(service.UpdateBatch, request)
    else:
        one = wire.PointVectors(id=wire.PointId(num=1), vectors=some[1].vectors)
        code = refusal(
            service.UpdateVectors, wire.UpdatePointVectors(collection_name="c", points=[one])
        )
    assert code == REFUSED
    is_as_before(path)


def test_a_query_that_is_refused_stops_nobody(client: QdrantClient, path: Path) -> None:
    query = wire.Query(nearest=wire.VectorInput(sparse=wire.SparseVector(indices=[5], values=[])))
    request = wire.QueryPoints(collection_name="c", query=query, using="sparse")
    assert refusal(client._client.grpc_points.Query, request) == REFUSED
    is_as_before(path)


@pytest.mark.parametrize(
    "id_", [wire.PointId(), wire.PointId(uuid=""), wire.PointId(uuid="zz")], ids=["none", "", "zz"]
)
def test_what_is_no_id_is_refused_and_not_waited_for(client: QdrantClient, id_: Any) -> None:
    request = wire.UpsertPoints(collection_name="c", points=[wire.PointStruct(id=id_)])
    assert refusal(client._client.grpc_points.Upsert, request) == REFUSED


def test_a_condition_of_a_write_is_not_passed_over(client: QdrantClient) -> None:
    """Only insert, for instance: the point that is there would be lost."""
    point, only = [wire.PointStruct(id=wire.PointId(num=1))], wire.Filter(must=[])
    insert = wire.UpdateMode.Value("InsertOnly")
    service = client._client.grpc_points
    for condition in ({"update_mode": insert}, {"update_filter": only}):
        request = wire.UpsertPoints(collection_name="c", points=point, **condition)
        assert refusal(service.Upsert, request) == UNSERVED
        change = wire.PointsUpdateOperation.PointStructList(points=point, **condition)
        operations = [wire.PointsUpdateOperation(upsert=change)]
        batch = wire.UpdateBatchPoints(collection_name="c", operations=operations)
        assert refusal(service.UpdateBatch, batch) == UNSERVED
    nothing = wire.UpdateBatchPoints(collection_name="c", operations=[wire.PointsUpdateOperation()])
    assert refusal(service.UpdateBatch, nothing) == UNSERVED
    assert client.retrieve("c", [1])[0].payload == {"number": 1}


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 100], ids=["none", "long", "long on disk"])
def test_a_collection_has_a_name_that_a_folder_can_have(
    client: QdrantClient, path: Path, name: str
) -> None:
    """The folder of no name at all is that of all collections."""
    request = wire.CreateCollection(collection_name=name)
    assert refusal(client._client.grpc_collections.Create, request) == REFUSED
    is_as_before(path)
