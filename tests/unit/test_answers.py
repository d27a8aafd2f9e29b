"""The meaning of an error of the store: it is waited for, or one document is at fault.

The texts are those of Qdrant's source (lib/collection/src/operations, lib/storage/src), of gRPC's
library and of SQLite.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from connectors.qdrant import QdrantSettings, QdrantStore, open_patiently
from connectors.qdrant.answers import explain, is_away, is_missing_collection, translated
from connectors.qdrant.patient import PatientClient
from connectors.qdrant.requests import MAX_POINT_BYTES, size_of_point
from models import DOCUMENT_TYPES, DeadLetter
from models.errors import ConfigurationError, ContentRefusedError, PointsGoneError
from tests.unit.test_index import World, change

INVALID = grpc.StatusCode.INVALID_ARGUMENT
INTERNAL = grpc.StatusCode.INTERNAL
NOT_FOUND = grpc.StatusCode.NOT_FOUND
NO_COLLECTION = b'{"status":{"error":"Not found: Collection `p` doesn\'t exist!"}}'


class Answer(grpc.RpcError):
    """A server's answer other than OK."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self._answer = code, details

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]


LIMITS = [
    Answer(INVALID, "Bad request: Max points count limit of 10 reached!"),
    Answer(INVALID, "Bad request: Max vector storage size limit of 1MB reached!"),
    Answer(INVALID, "Bad request: Max payload storage size limit of 1MB reached!"),
    Answer(
        INVALID,
        'Bad request: Index required but not found for "model" of one of the following types: '
        "[keyword]. Help: Create an index for this key or use a different filter.",
    ),
    Answer(
        grpc.StatusCode.PERMISSION_DENIED,  # as of versions 1.13 and 1.14
        'Forbidden: Index required but not found for "model". Help: Create an index for this key',
    ),
    Answer(
        INVALID,
        "Bad request: Resident memory usage is at 91% of total memory, exceeding the configured "
        "limit of 90%. Help: Reduce memory usage",
    ),
    Answer(INTERNAL, "Service internal error: Out of memory, free: 0, Failed to reserve memory"),
    Answer(
        INTERNAL,
        "Service internal error: No space left on device: WAL buffer size exceeds available disk "
        "space",
    ),
    Answer(INTERNAL, "Service internal error: Out of disk space: IO Error: StorageFull"),
    Answer(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter "
        "capacity, please try to split your request",
    ),
    ResourceExhaustedResponse("Rate limiting exceeded: Write rate limit exceeded", 2),
    Answer(grpc.StatusCode.FAILED_PRECONDITION, "Storage locked: Write operations are forbidden"),
    Answer(grpc.StatusCode.PERMISSION_DENIED, "Forbidden: Write access to collection is required"),
    Answer(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT"),
    Answer(grpc.StatusCode.NOT_FOUND, "Not found: Collection `vector_posts` doesn't exist!"),
    # A refusal by another node of a cluster: its reason is lost on the way.
    Answer(INVALID, "Wrong input: InvalidArgument"),
    Answer(INVALID, "Wrong input: Vector dimension error: expected dim: 8, got 384"),
    Answer(INVALID, "something that no version says today"),
    Answer(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "No space left on device: less than 64 MB are free on the disk of the store",
    ),
    Answer(grpc.StatusCode.INTERNAL, "Service internal error: Input/output error (os error 5)"),
]
AWAY = [
    Answer(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses"),
    Answer(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    Answer(grpc.StatusCode.UNKNOWN, "Stream removed"),
    UnexpectedResponse(503, "Service Unavailable", b"", None),  # type: ignore[arg-type]
    ResponseHandlingException(ConnectionRefusedError("refused")),
]
CONTENT = [
    Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (33555077 vs. 4)"),
    Answer(
        grpc.StatusCode.OUT_OF_RANGE,
        "Error, decoded message length too large: found 33555077 bytes, the limit is: 4 bytes",
    ),
    Answer(grpc.StatusCode.UNKNOWN, "Received http2 header with status: 413"),
    Answer(INVALID, "Validation error in body: [points[0].payload: invalid]"),
    Answer(INVALID, "Unable to parse UUID: nonsense"),
    UnexpectedResponse(400, "Bad Request", b"Validation error", None),  # type: ignore[arg-type]
]


class FaultyClient:
    """A store in memory; the next calls of a method can be made to fail.

    :param method: name of a method
    """

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self.init_options = self._client.init_options
        self.faults: dict[str, list[Exception]] = {}
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return method(*arguments, **options)

        return call


@pytest.fixture
def client() -> Iterator[FaultyClient]:
    client = FaultyClient()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.patience.time.sleep", lambda _: None)


def short(error: object) -> str:
    return str(error)[:60]


@pytest.mark.parametrize("error", LIMITS, ids=short)
def test_a_limit_costs_no_document_its_place_and_says_how_it_ends(error: Exception) -> None:
    assert is_away(error)
    reason, remedy = explain(error)
    assert remedy
    assert len(reason.splitlines()) == 1


@pytest.mark.parametrize("error", AWAY, ids=short)
def test_a_store_that_is_away_needs_no_person(error: Exception) -> None:
    assert is_away(error)
    assert explain(error).remedy == ""


@pytest.mark.parametrize("error", CONTENT, ids=short)
def test_only_content_is_refused(error: Exception) -> None:
    assert not is_away(error)
    assert isinstance(translated(error), ContentRefusedError)


def test_points_that_are_gone_are_no_absence() -> None:
    error = Answer(grpc.StatusCode.NOT_FOUND, "Not found: No point with id 7 found")
    assert not is_away(error)
    assert isinstance(translated(error), PointsGoneError)


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (Answer(NOT_FOUND, "Not found: Collection `vector_posts` doesn't exist!"), True),
        (Answer(INVALID, "Collection vector_posts not found"), True),
        (UnexpectedResponse(404, "Not Found", NO_COLLECTION, None), True),  # type: ignore[arg-type]
        (ValueError("Collection vector_posts not found"), True),
        (Answer(NOT_FOUND, "Not found: Shard 3 not found"), False),
        (Answer(INVALID, "Wrong input: Not existing vector name error: dense"), False),
        (Answer(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses"), False),
        (ValueError("shapes (384,) and (64,) not aligned"), False),
    ],
    ids=short,
)
def test_only_a_missing_collection_is_a_type_without_hits(error: Exception, missing: bool) -> None:
    """A search goes on without it, so anything else would hide hits."""
    assert is_missing_collection(error) is missing


def test_the_local_mode_says_that_a_collection_is_missing(client: FaultyClient) -> None:
    with pytest.raises(ValueError, match="vector_posts") as caught:
        client.query_points("vector_posts", query=[1.0])
    assert is_missing_collection(caught.value)


@pytest.mark.parametrize("method", ["upsert", "delete", "batch_update_points", "retrieve"])
@pytest.mark.parametrize("error", LIMITS, ids=short)
def test_a_limit_is_waited_for_and_removes_nothing(
    client: FaultyClient, method: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Today's two documents were both removed by "Max points count reached"."""
    world = World(client)  # type: ignore[arg-type]
    world.apply(change("a b", 1, entry_id="1"), change("c d", 1, entry_id="2"))
    client.faults[method] = [error] * 3
    edits = [change("a x", 2, entry_id="1", author="you"), change(None, 2, entry_id="2")]
    with caplog.at_level(logging.WARNING, "connectors"):
        results = world.index(edits)
    assert not client.faults[method]
    assert not [result for result in results if isinstance(result, DeadLetter)]
    assert (world.words("1"), world.words("2")) == (["a", "x"], [])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("Qdrant refuses, waiting: ")
    assert said[1].startswith("Qdrant is back")


def test_a_limit_met_midway_leaves_no_half_of_a_document(client: FaultyClient) -> None:
    world = World(client)  # type: ignore[arg-type]
    words = " ".join(f"w{number}" for number in range(300))
    upsert, seen = client.upsert, 0

    def limited(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if 2 <= seen < 6:
            raise LIMITS[0]
        return upsert(*arguments, **options)

    client.upsert = limited
    assert world.apply(change(words, 1, fenced=False)) == ["upserted"]
    assert seen > 6
    assert world.words() == words.split()


def test_each_remedy_is_said_once_in_an_absence(
    client: FaultyClient, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(client)  # type: ignore[arg-type]
    away, points, disk = AWAY[0], LIMITS[0], LIMITS[7]
    client.faults["upsert"] = [away, points, away, points, disk, points]
    with caplog.at_level(logging.WARNING, "connectors"):
        world.apply(change("a", 1))
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in said[:3]] == [
        "Qdrant is away, waiting for it", "Qdrant refuses, waiting", "Qdrant refuses, waiting",
    ]  # fmt: skip
    assert "(raise this limit of the collection, or delete points)" in said[1]
    assert "(free space on its disk, or mend it)" in said[2]
    assert len(said) == 4


@pytest.mark.parametrize("error", [*LIMITS, *AWAY, *CONTENT, RuntimeError("?")], ids=short)
def test_no_error_of_pruning_ends_or_stops_a_flow(client: FaultyClient, error: Exception) -> None:
    world = World(client)  # type: ignore[arg-type]
    world.apply(change(None, 1))
    for method in ("count", "delete"):
        client.faults[method] = [error]
        assert world.store.prune_tombstones(2.0**60) == 0
    assert world.store.prune_tombstones(2.0**60) == 1


def test_pruning_reads_no_tombstones(client: FaultyClient) -> None:
    world = World(client)  # type: ignore[arg-type]
    world.apply(change(None, 1))
    client.faults["scroll"] = client.faults["retrieve"] = [RuntimeError("they may be millions")]
    assert world.store.prune_tombstones(2.0**60) == 1


@pytest.mark.parametrize(
    "error",
    [
        Answer(INVALID, 'Bad request: Limit exceeded 7 > 3 for "upsert limit". Help: Reduce the'),
        LIMITS[9],
        CONTENT[0],
        CONTENT[1],
    ],
    ids=short,
)
def test_a_request_that_is_too_large_is_sent_in_parts(
    client: FaultyClient, error: Exception
) -> None:
    world = World(client)  # type: ignore[arg-type]
    upsert = client.upsert

    def few(name: str, points: list[q.PointStruct], **options: Any) -> Any:
        if len(points) > 3:
            raise error
        return upsert(name, points, **options)

    client.upsert = few
    assert world.apply(change("a b c d e f g", 1)) == ["upserted"]
    assert world.words() == list("abcdefg")


def test_one_point_that_is_too_large_is_content(client: FaultyClient) -> None:
    QdrantStore(client, DOCUMENT_TYPES).ensure_collections(4)  # type: ignore[arg-type]
    client.faults["upsert"] = [CONTENT[0]]
    with pytest.raises(ContentRefusedError, match="larger than max"):
        PatientClient(client).upsert("vector_posts", [q.PointStruct(id=1, vector={}, payload={})])


def test_the_size_of_a_point_follows_its_vector() -> None:
    small, large = (
        size_of_point(q.PointStruct(id=1, vector={"dense": [0.5] * size}, payload={"a": "x"}))
        for size in (384, 3072)
    )
    assert large - small == 4 * (3072 - 384)
    text = "x" * (MAX_POINT_BYTES - 1024)
    with pytest.raises(ContentRefusedError, match="larger than a Qdrant server takes"):
        size_of_point(q.PointStruct(id=1, vector={"dense": [0.5] * 384}, payload={"a": text}))


def test_a_folder_that_cannot_be_one_is_a_mistake_and_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "qdrant"):
        with pytest.raises(ConfigurationError, match=r"QDRANT_PATH .+ cannot be used"):
            open_patiently(QdrantSettings(path=path))
