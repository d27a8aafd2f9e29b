"""When documents were published and changed: read in every form, stored in one, filtered by."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from connectors.qdrant import cleaned, vectors_of
from models import CapturedChange, ChangeEvent, Delivery, Post
from models.timestamps import read_time, time_text
from retrieval import search as command
from retrieval.client import RetrievalClient
from retrieval.options import MODES
from tests.unit.test_fresh import World, talks
from tests.unit.test_retrieval import HashingEmbedder, create, put

__all__ = ["talks"]

MAY = "2024-05-01T12:30:05Z"
YEAR = "2025-01-01T00:00:00Z"
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[
            (value, MAY)
            for value in (
                datetime(2024, 5, 1, 12, 30, 5),  # noqa: DTZ001 (as MongoDB's driver gives it)
                datetime(2024, 5, 1, 14, 30, 5, tzinfo=timezone(timedelta(hours=2))),
                {"$date": "2024-05-01T12:30:05Z"},
                {"$date": {"$numberLong": "1714566605000"}},
                {"$date": 1714566605000},
                {"$timestamp": {"t": 1714566605, "i": 1}},
                "2024-05-01T12:30:05Z",
                "2024-05-01T12:30:05",
                " 2024-05-01 12:30:05 \n",
                "2024-05-01T14:30:05+02:00",
                "2024-05-01T14:30:05+02",
                "2024-05-01t07:00:05-0530",
                "20240501T123005Z",
                "Wed, 01 May 2024 12:30:05 GMT",
                "Wed, 1 May 2024 08:30:05 -0400",
                "1 May 2024 12:30:05",
                1714566605,
                1714566605.0,
                1714566605000,
                {"$numberLong": "1714566605000"},
                {"$numberDouble": "1714566605"},
            )
        ],
        ("2024-05-01T12:30:05.25Z", "2024-05-01T12:30:05.250000Z"),
        ("2024-05-01T12:30:05,123456789Z", "2024-05-01T12:30:05.123456Z"),
        (1714566605250, "2024-05-01T12:30:05.250000Z"),
        ("2024-05-01", "2024-05-01T00:00:00Z"),
        (date(2024, 5, 1), "2024-05-01T00:00:00Z"),
        ("2024-05-01T12:30", "2024-05-01T12:30:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-86400, "1969-12-31T00:00:00Z"),
        ({"$date": {"$numberLong": "-86400000"}}, "1969-12-31T00:00:00Z"),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
    ],
)
def test_a_date_is_read_in_every_form(value: Any, text: str) -> None:
    assert time_text(value) == text
    assert time_text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, "", " ", "yesterday", "May 2024", "2024", "2024-13-01", "12 34"),
        *("2024-05-01T25:00", "2024-02-30", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00+01:00"),
        *("２０２４-05-01", "1 Foo 2024 10:00", "call 030 1234567", "1714566605", "x" * 10_000_000),
        *(float("nan"), float("inf"), 10**400, 1e300, 1714566605 * 10**9, [1714566605], {}),
        *({"$date": None}, {"$date": {}}, {"$date": {"$date": 5}}, {"$date": "x"}, {"$oid": "0"}),
        *({"$numberLong": "x"}, {"$numberDouble": "NaN"}, {"$timestamp": 5}, {"a": 1, "b": 2}),
        *("2024-05-01T12:30:05+99:00", {"$date": {"$numberLong": "9" * 30}}, "Wed, 01 May"),
    ],
)
def test_what_names_no_moment_is_left_out_and_refuses_no_document(value: Any) -> None:
    assert read_time(value) is None
    body = {"content": "text", "published_at": value, "updated_at": value}
    post = Post.parse("a", body)
    assert (post.published_at, post.updated_at) == (None, None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["$date", "$numberLong", "$timestamp", "t"]) | st.text(), inner
    ),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=20)
@given(anything)
def test_whatever_a_field_holds_it_is_read_or_left_out(value: Any) -> None:
    text = time_text(value)
    assert text is None or time_text(text) == text


@settings(max_examples=20)
@given(st.datetimes(datetime(1700, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001 (in UTC)
def test_a_date_of_bson_passes_the_queue_unchanged(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    document = {"_id": 1, "content": "x", "published_at": moment, "updated_at": Timestamp(7, 1)}
    message = ChangeEvent.from_change(CapturedChange("insert", "posts", 1, 1, document))
    wire = message.to_message("q")
    body = ChangeEvent.from_delivery(Delivery("q", wire.body, wire.headers)).body
    post = Post.parse("1", body)
    assert post.published_at == time_text(moment)
    assert post.updated_at == "1970-01-01T00:00:07Z"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.client.close()


def test_a_changed_date_is_a_change_of_payloads_that_embeds_nothing(world: World) -> None:
    world.write("insert", published_at="2024-05-01", updated_at=MAY)
    count, encoded = len(world.fields("path")), world.embedder.encoded
    assert count > 3
    assert world.write(published_at="2024-05-01", updated_at="2024-05-02") == "upserted"
    assert world.fields("updated_at") == ["2024-05-02T00:00:00Z"] * count
    assert world.write(published_at={"$date": "2024-05-01T02:00:00+02:00"}) == "upserted"
    assert world.fields("published_at") == ["2024-05-01T00:00:00Z"] * count
    assert world.fields("updated_at") == [None] * count
    # The same moment in another form is no change.
    assert world.write(published_at=1714521600) == "refreshed"
    assert world.embedder.encoded == encoded
    assert world.differences() == []


def test_changed_tags_are_a_change_of_payloads_that_embeds_nothing(world: World) -> None:
    world.write("insert", tags=["rag"], language="en")
    count, encoded = len(world.fields("path")), world.embedder.encoded
    assert world.write(tags=["rag", "cdc"], language="EN") == "upserted"
    assert world.fields("tags") == [["rag", "cdc"]] * count
    assert world.write(tags=["rag", "cdc", "rag"], language="en") == "refreshed"
    assert world.write(tags=[]) == "upserted"
    assert world.fields("tags") == world.fields("language") == [None] * count
    assert world.embedder.encoded == encoded
    assert world.differences() == []


def test_a_store_without_dates_is_upgraded_by_reconcile_and_embeds_nothing(world: World) -> None:
    world.write("insert", published_at="2024-05-01", updated_at=MAY)
    for collection in (cleaned("talks"), vectors_of("talks")):
        ids = [point.id for point in world.client.scroll(collection, limit=1000)[0]]
        world.client.delete_payload(collection, ["published_at", "updated_at"], ids)
    encoded = world.embedder.encoded
    found = world.finding()
    assert found is not None
    assert found.kind == "stale"
    assert world.write("repair", published_at="2024-05-01", updated_at=MAY) == "upserted"
    assert set(world.fields("published_at")) == {"2024-05-01T00:00:00Z"}
    assert world.embedder.encoded == encoded
    assert world.finding() is None
    assert world.differences() == []


@pytest.fixture
def dated() -> Iterator[RetrievalClient]:
    with closing(QdrantClient(":memory:")) as client:
        for type_ in ("posts", "articles"):
            create(client, type_)
        put(client, "posts", 1, "ships sail", published_at="2024-04-30T23:59:59.999000Z")
        put(client, "posts", 2, "ships sail", published_at="2024-05-01T00:00:00Z")
        put(client, "articles", 3, "ships sail", published_at=MAY, updated_at=YEAR)
        put(client, "articles", 4, "ships sail")
        yield RetrievalClient(client, HashingEmbedder())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"published_after": "2024-05-01"}, {"2", "3"}),
        ({"published_before": "2024-05-01"}, {"1"}),
        ({"published_after": "2024-05-01", "published_before": "2024-05-02"}, {"2", "3"}),
        ({"published_after": date(2024, 5, 1), "published_before": MAY}, {"2"}),
        ({"published_after": datetime(2024, 5, 1, 2, tzinfo=EAST)}, {"2", "3"}),
        ({"published_after": "2024-05-01T02:00:00+02:00", "types": ["posts"]}, {"2"}),
        ({"updated_after": "2024-01-01"}, {"3"}),
        ({"updated_before": "2024-01-01"}, set()),
        ({"published_after": "2024-05-02", "published_before": "2024-05-01"}, set()),
    ],
)  # fmt: skip
def test_hits_can_be_of_a_range_of_dates(
    dated: RetrievalClient, mode: Any, wanted: Any, found: set[str]
) -> None:
    hits = dated.search("ships sail", mode=mode, **wanted)
    assert {hit.entry_id for hit in hits} == found


def test_a_hit_says_its_dates(dated: RetrievalClient) -> None:
    [hit] = dated.search("ships", updated_after="2024-01-01")
    assert (hit.published_at, hit.updated_at) == (MAY, YEAR)


@pytest.mark.parametrize("value", ["soon", "2024-02-30", "", "05/01/2024"])
@pytest.mark.parametrize("name", ["published_after", "updated_before"])
def test_a_range_that_is_none_is_refused_in_one_line(
    dated: RetrievalClient, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a date, as in 2026-05-31, not '"):
        dated.search("ships", **{name: value})  # type: ignore[arg-type]


def test_the_command_takes_ranges_of_dates() -> None:
    options = command._options(
        ["ships", "--published-after", "2024-05-01", "--updated-before", "2025-01-01"]
    )
    assert (options.published_after, options.published_before) == ("2024-05-01", None)
    assert (options.updated_after, options.updated_before) == (None, "2025-01-01")
