"""Pages of a scroll: as large as the server can deliver, and never a reason to hang."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import STORE_ERRORS, cleaned, scan_points, scroll
from connectors.qdrant.scroll import FIRST_PAGE, LARGEST_PAGE
from connectors.qdrant.store import QdrantStore

POINTS = 2000


class Refusal(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text


LATE = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
LARGE = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs 4)")
STRICT = Refusal(grpc.StatusCode.INVALID_ARGUMENT, 'Limit exceeded 256 > 100 for "limit". Help: …')
RATE = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Rate limiting exceeded")


class Narrow(QdrantClient):
    """A store behind a way that carries so many bytes, or points, in one answer."""

    refusal: Exception = LATE
    points = 10**9
    weight = 10**9
    sizes: list[int]

    def scroll(self, collection_name: str, *args: Any, **options: Any) -> tuple[list[Any], Any]:
        found = super().scroll(collection_name, *args, **options)
        weight = sum(int((record.payload or {}).get("weight", 1)) for record in found[0])
        self.sizes.append(options["limit"])
        if options["limit"] > self.points or weight > self.weight:
            raise self.refusal
        return found


@pytest.fixture
def client() -> Iterator[Narrow]:
    with closing(Narrow(":memory:")) as client:
        client.sizes = []
        QdrantStore(client, ["posts"]).ensure_collections(4)
        client.upsert(
            cleaned("posts"),
            [
                q.PointStruct(id=n, vector={}, payload={"entry_id": str(n), "weight": 1})
                for n in range(POINTS)
            ],
        )
        yield client


def read(client: QdrantClient) -> list[int]:
    return [int(point.id) for point in scroll(client, cleaned("posts"))]


def test_a_page_is_never_larger_than_the_largest(client: Narrow) -> None:
    assert read(client) == list(range(POINTS))
    assert client.sizes == [FIRST_PAGE, 2 * FIRST_PAGE, LARGEST_PAGE, LARGEST_PAGE]


@pytest.mark.parametrize("refusal", [LATE, LARGE, STRICT], ids=["late", "large", "strict"])
def test_what_is_too_much_for_one_answer_comes_in_smaller_pages(
    client: Narrow, refusal: Exception
) -> None:
    client.points, client.refusal = 100, refusal
    assert read(client) == list(range(POINTS))
    assert len(client.sizes) < 3 * POINTS / 64


def test_pages_grow_back_after_a_stretch_of_large_points(client: Narrow) -> None:
    client.set_payload(cleaned("posts"), {"weight": 50}, points=list(range(200, 400)))
    client.weight = LARGEST_PAGE
    assert read(client) == list(range(POINTS))
    assert min(client.sizes) < 64
    assert client.sizes[-1] == LARGEST_PAGE


def test_a_reconciliation_of_large_documents_does_not_hang(client: Narrow) -> None:
    # Patience takes a deadline for an absence: it would ask for the same page for ever.
    client.points = 16
    found = [key.entry_id for key, *_ in scan_points(client, ["posts"])]
    assert sorted(found, key=int) == [str(n) for n in range(POINTS)]


@pytest.mark.parametrize("error", [RATE, Refusal(grpc.StatusCode.UNAVAILABLE, "no route")])
def test_an_absence_is_no_reason_for_smaller_pages(client: Narrow, error: Exception) -> None:
    client.points, client.refusal = 0, error
    with pytest.raises(STORE_ERRORS):
        read(client)
    assert client.sizes == [FIRST_PAGE]


def test_a_single_point_that_does_not_come_is_not_passed_over(client: Narrow) -> None:
    client.points = 0
    with pytest.raises(STORE_ERRORS):
        read(client)
    assert client.sizes == [256, 64, 16, 4, 1]


def test_each_request_is_made_by_the_caller(client: Narrow) -> None:
    calls: list[Callable[[], Any]] = []

    def call(function: Callable[[], Any]) -> Any:
        calls.append(function)
        return function()

    assert len(list(scroll(client, cleaned("posts"), call=call))) == POINTS
    assert len(calls) == len(client.sizes)
