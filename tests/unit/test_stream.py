"""The change stream as the capture reads it: stages, positions and ordinals."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Timestamp
from dns.resolver import NXDOMAIN, LifetimeTimeout
from pymongo.errors import AutoReconnect, InvalidURI, OperationFailure
from pymongo.errors import ConfigurationError as MongoConfigurationError

from connectors.mongodb.positions import Position, Scan, StreamPosition
from connectors.mongodb.server import is_away
from connectors.mongodb.stages import SPLIT, WITHOUT_DOCUMENTS
from connectors.mongodb.stream import EventStream, StagesChangedError
from models.errors import ConfigurationError, LostHistoryError

BEGIN = StreamPosition(Timestamp(5, 1), time=Timestamp(5, 1))


def event(time: Timestamp, number: int, op: str = "insert", **fields: Any) -> dict[str, Any]:
    key = {"documentKey": {"_id": number}, "ns": {"db": "twin", "coll": "posts"}}
    return {
        "_id": {"_data": f"{number:04}"}, "operationType": op, "clusterTime": time, **key, **fields,
    }  # fmt: skip


def part(number: int, of: int) -> dict[str, Any]:
    return event(Timestamp(6, 1), number, splitEvent={"fragment": number, "of": of})


def error(code: int) -> OperationFailure:
    return OperationFailure("refused", code)


class FakeServer:
    """Answers each opening of a stream with the next of some scripts."""

    def __init__(self, *scripts: list[Any], version: tuple[int, ...] = (8, 0, 0)) -> None:
        self.scripts = list(scripts)
        self.opened: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        self.client = SimpleNamespace(server_info=lambda: {"versionArray": list(version)})
        self.looked_up: list[Any] = []

    def watch(self, stages: list[dict[str, Any]], **options: Any) -> Any:
        self.opened.append((stages, options))
        return FakeStream(self.scripts.pop(0))

    def reads(self) -> Any:
        def document(_collection: str, id_: Any) -> dict[str, Any]:
            self.looked_up.append(id_)
            return {"_id": id_, "content": "looked up"}

        session = SimpleNamespace(advance_operation_time=lambda _time: None)
        return SimpleNamespace(database=self, session=session, document=document)


class FakeStream:
    alive = True

    def __init__(self, script: list[Any]) -> None:
        self._script: Iterator[Any] = iter(script)
        self.resume_token: dict[str, str] | None = None

    def try_next(self) -> dict[str, Any] | None:
        found = next(self._script, None)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, str):
            self.resume_token = {"_data": found}
            return None
        return found

    def __enter__(self) -> "FakeStream":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def read(
    stream: EventStream, server: FakeServer, position: StreamPosition, count: int = 1
) -> list[tuple[Any, StreamPosition]]:
    with stream.opened(server.reads(), position, 500):
        return [stream.read() for _ in range(count)]


def test_ordinals_count_the_events_of_one_cluster_time() -> None:
    one, other = Timestamp(6, 1), Timestamp(6, 2)
    times = [one, one, one, other, Timestamp(7, 1), Timestamp(7, 1)]
    server = FakeServer([event(time, number) for number, time in enumerate(times)])
    found = read(EventStream(["posts"]), server, BEGIN, len(times))
    assert [position.ordinal - 1 for _, position in found] == [0, 1, 2, 0, 0, 1]


def test_a_stream_that_resumes_inside_a_transaction_goes_on_counting() -> None:
    time = Timestamp(6, 1)
    server = FakeServer(
        [event(time, 1), event(time, 2)], [event(time, 3), "0003+", event(Timestamp(6, 2), 4)]
    )
    [_, (_, inside)] = read(EventStream(["posts"]), server, BEGIN, 2)
    again = Position.from_document(Position(inside).to_document(), ["posts"]).stream
    [(_, third), (nothing, moved), (_, fourth)] = read(EventStream(["posts"]), server, again, 3)
    assert (third.ordinal - 1, fourth.ordinal - 1) == (2, 0)
    assert nothing is None
    assert moved.token == {"_data": "0003+"}
    assert server.opened[1][1]["resume_after"] == {"_data": "0002"}


def test_a_stream_that_begins_at_a_time_begins_to_count_there() -> None:
    """Each time anew: what it read before has no position yet."""
    scripts = [[event(BEGIN.start, 1), event(BEGIN.start, 2)] for _ in range(2)]
    server = FakeServer(*scripts)
    for _ in range(2):
        found = read(EventStream(["posts"]), server, BEGIN, 2)
        assert [position.ordinal - 1 for _, position in found] == [0, 1]


def test_the_parts_of_an_event_are_one_and_no_position_lies_between_them() -> None:
    server = FakeServer([part(1, 2), "0001+", part(2, 2), "0003"])
    found = read(EventStream(["posts"]), server, BEGIN, 3)
    assert found[0] == (None, BEGIN)
    assert (found[1][1].ordinal, found[1][1].split) == (1, True)
    assert not found[2][1].split, "a token between two batches is that of no part"


def test_only_a_position_after_a_part_needs_a_stream_that_splits() -> None:
    server = FakeServer([None], [None])
    for split in (False, True):
        read(EventStream(["posts"]), server, BEGIN._replace(token={"_data": "1"}, split=split))
    assert [SPLIT in stages for stages, _ in server.opened] == [False, True]


@pytest.mark.parametrize("code", [10334, 280])
def test_an_error_that_splitting_may_mend_has_the_stream_opened_again(code: int) -> None:
    server = FakeServer([error(code)], [event(Timestamp(6, 1), 1)])
    stream = EventStream(["posts"])
    with pytest.raises(StagesChangedError):
        read(stream, server, BEGIN)
    [(found, _)] = read(stream, server, BEGIN)
    assert found is not None
    assert [SPLIT in stages for stages, _ in server.opened] == [False, True]


@pytest.mark.parametrize("code", [9, 260, 280, 286, 40647, 50811])
def test_history_is_lost_once_splitting_has_not_mended_it(code: int) -> None:
    stream = EventStream(["posts"])
    server = FakeServer([error(code)], [error(code)])
    with pytest.raises(StagesChangedError):
        read(stream, server, BEGIN)
    with pytest.raises(LostHistoryError, match=f"error {code}"):
        read(stream, server, BEGIN)
    old = FakeServer([error(code)], version=(6, 0, 8))
    with pytest.raises(LostHistoryError):
        read(EventStream(["posts"]), old, BEGIN)


def test_a_server_that_refuses_to_split_after_all_is_not_asked_again() -> None:
    stream = EventStream(["posts"])
    server = FakeServer([error(10334)], [error(40324)], [error(10334)], [event(BEGIN.start, 1)])
    for _ in range(3):
        with pytest.raises(StagesChangedError):
            read(stream, server, BEGIN)
    read(stream, server, BEGIN)
    stages = [[SPLIT in some, WITHOUT_DOCUMENTS in some] for some, _ in server.opened]
    assert stages == [[False, False], [True, False], [False, False], [False, True]]


def test_without_documents_a_stream_looks_them_up_and_returns_to_the_usual_one() -> None:
    time = Timestamp(6, 1)
    events = [event(time, 1, "update"), event(time, 2, "delete"), event(time, 3)]
    server = FakeServer([error(10334)], [*events, "quiet"], [None], version=(6, 0, 8))
    stream = EventStream(["posts"])
    with pytest.raises(StagesChangedError):
        read(stream, server, BEGIN)
    with stream.opened(server.reads(), BEGIN, 500):
        found = [stream.read() for _ in events]
        with pytest.raises(StagesChangedError):
            stream.read()
    assert [one and one.get("fullDocument") for one, _ in found] == [
        {"_id": 1, "content": "looked up"}, None, {"_id": 3, "content": "looked up"},
    ]  # fmt: skip
    assert [position.ordinal - 1 for _, position in found] == [0, 1, 2]
    assert server.looked_up == [1, 3]
    read(stream, server, found[-1][1])
    (lean, lean_options), (usual, usual_options) = server.opened[1:]
    assert (WITHOUT_DOCUMENTS in lean, WITHOUT_DOCUMENTS in usual) == (True, False)
    assert "full_document" not in lean_options
    assert usual_options["full_document"] == "updateLookup"


def test_an_event_too_large_even_without_its_document_is_no_endless_loop() -> None:
    server = FakeServer([error(10334)], [error(10334)], version=(6, 0, 8))
    stream = EventStream(["posts"])
    with pytest.raises(StagesChangedError):
        read(stream, server, BEGIN)
    with pytest.raises(OperationFailure):
        read(stream, server, BEGIN)


def test_a_snapshot_of_the_first_release_goes_on_where_it_was() -> None:
    old = {"phase": "snapshot", "start": BEGIN.start, "collection": "articles", "last_id": [None]}
    position = Position.from_document(old, ["posts", "articles", "repositories"])
    assert position == Position(
        StreamPosition(BEGIN.start),
        (Scan("articles", BEGIN.start, (None,)), Scan("repositories", BEGIN.start)),
    )
    assert Position.from_document(position.to_document(), []) == position
    before_the_first_row = {**old, "collection": None, "last_id": None}
    first = Position.from_document(before_the_first_row, ["posts", "articles"])
    assert [scan.collection for scan in first.scans] == ["posts", "articles"]


def raised_from(cause: Exception) -> MongoConfigurationError:
    error_ = MongoConfigurationError(str(cause))
    error_.__cause__ = cause
    return error_


@pytest.mark.parametrize(
    "failure",
    [
        raised_from(NXDOMAIN()),
        raised_from(LifetimeTimeout(timeout=1, errors=[])),
        raised_from(OSError("network is unreachable")),
        AutoReconnect("closed"),
        error(13),
    ],
    ids=repr,
)
def test_what_may_pass_is_waited_for(failure: Exception) -> None:
    assert is_away(failure)


@pytest.mark.parametrize("failure", [InvalidURI("no host"), error(40573)], ids=repr)
def test_what_a_person_has_to_mend_is_not_waited_for(failure: Exception) -> None:
    with pytest.raises(ConfigurationError, match="MONGO_DATABASE_HOST"):
        is_away(failure)
