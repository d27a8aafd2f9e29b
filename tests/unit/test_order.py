"""The order of changes that share a cluster time: fence, retraction and replay obey it."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import TOMBSTONES, QdrantStore, cleaned, vectors_of
from models import (
    DOCUMENT_TYPES,
    MAX_ORDINAL,
    CapturedChange,
    ChangeEvent,
    DeadLetter,
    Delivery,
    Message,
    Version,
)
from tests.dead_letters import replayed
from tests.unit.test_flows import payloads, run

NOW = int(time.time()) << 32 | 5
"""A cluster time; no floating point number is near enough to tell it from its neighbours."""


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        QdrantStore(client, DOCUMENT_TYPES).ensure_collections(32)
        yield client


def sent(op: str, ordinal: int, content: str | None = None, at: int = NOW) -> Delivery:
    """The message of a change of post `a`; without content it is poison, if it is no delete."""
    document = None if op in ("delete", "drop") else {"_id": "a", "content": content}
    change = CapturedChange(op, "posts", at, "a", document, ordinal=ordinal)
    message = ChangeEvent.from_change(change).to_message("default")
    return Delivery("default", message.body, message.headers)


def texts(client: QdrantClient) -> list[str]:
    """The posts that are stored, each with its one chunk."""
    found = sorted(record["cleaned_content"] for record in payloads(client, cleaned("posts")))
    assert sorted(chunk["content"] for chunk in payloads(client, vectors_of("posts"))) == found
    return found


def put_back(letters: list[Message], store: QdrantStore | None) -> list[Delivery]:
    """What `make replay` puts back into the queue."""
    return [
        Delivery(message.queue, message.body, message.headers)
        for message in replayed(letters, store, at=NOW >> 32)
        if message.queue == "default"
    ]


def test_a_replay_never_retracts_what_a_later_change_of_its_transaction_stored(
    client: QdrantClient, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = run(client, [sent("insert", 0), sent("update", 1, "good")], batch_size=1)
    assert [(m.headers["version"], m.headers["ordinal"]) for m in letters] == [(NOW, 0)]
    assert texts(client) == ["good"]
    assert put_back(letters, QdrantStore(client, DOCUMENT_TYPES)) == []
    assert "superseded by a newer version: posts a" in capsys.readouterr().out
    # where the store cannot be read it goes back, and fails again
    again = put_back(letters, None)
    assert len(run(client, again)) == 1
    assert texts(client) == ["good"]


def test_a_replayed_insert_never_undoes_a_delete_of_its_transaction(client: QdrantClient) -> None:
    letters = run(client, [sent("insert", 0)])
    run(client, [sent("delete", 1)])
    assert put_back(letters, QdrantStore(client, DOCUMENT_TYPES)) == []
    mended = sent("insert", 0, "its bug is mended by now")
    assert run(client, [mended]) == []
    assert texts(client) == []


def test_a_repeated_transaction_never_shows_an_earlier_state_of_it(client: QdrantClient) -> None:
    """A cdc that was killed before its checkpoint sends the first half again."""
    run(client, [sent("insert", 0, "first"), sent("update", 1, "second")], batch_size=1)
    run(client, [sent("insert", 0, "first")])
    assert texts(client) == ["second"]
    run(client, [sent("update", 1, "second, as it is now")])
    assert texts(client) == ["second, as it is now"]


def test_a_row_never_loses_to_a_change_that_it_has_seen(client: QdrantClient) -> None:
    """The stream of a snapshot begins at its cluster time, inclusive."""
    run(client, [sent("snapshot", MAX_ORDINAL, "last of the transaction")])
    run(client, [sent("insert", 0, "first of it"), sent("delete", 1)], batch_size=1)
    assert texts(client) == ["last of the transaction"]


def test_a_repair_passes_the_change_of_a_transaction_at_its_very_time(client: QdrantClient) -> None:
    run(client, [sent("update", 3, "damaged later on")])
    run(client, [sent("repair", MAX_ORDINAL, "as in MongoDB")])
    assert texts(client) == ["as in MongoDB"]


def test_a_sweep_takes_every_change_of_its_time_and_none_of_the_next(client: QdrantClient) -> None:
    run(client, [sent("update", 7, "renewed by no row", NOW - 1)])
    sweep = sent("drop", MAX_ORDINAL, at=NOW - 1)
    run(client, [sweep])
    assert texts(client) == []
    assert run(client, [sent("update", 8, "late", NOW - 1)]) == []
    assert texts(client) == []
    run(client, [sent("insert", 0, "of the stream"), sweep], batch_size=1)
    assert texts(client) == ["of the stream"]


def test_a_sweep_takes_what_a_scan_one_tick_before_it_stored(client: QdrantClient) -> None:
    """Both are of the same cluster time, and neither is older than the other."""
    run(client, [sent("snapshot", MAX_ORDINAL, "deleted since", NOW - 1)])
    run(client, [sent("drop", MAX_ORDINAL, at=NOW - 1)])
    assert texts(client) == []


def test_tombstones_and_fences_keep_the_ordinal(client: QdrantClient) -> None:
    run(client, [sent("delete", 2), sent("drop", 4), sent("drop", 3)], batch_size=1)
    kept = {(p["entry_id"], p["version"], p["ordinal"]) for p in payloads(client, TOMBSTONES)}
    assert kept == {("a", NOW, 2), ("", NOW, 4)}


def test_what_the_first_release_stored_and_sent_is_the_first_change_of_its_time(
    client: QdrantClient,
) -> None:
    run(client, [sent("insert", 0, "old")])
    client.delete_payload(cleaned("posts"), ["ordinal"], [_record(client)])
    older = sent("update", 0, "of a message without the header")
    assert "ordinal" not in older.headers
    run(client, [older])
    assert texts(client) == ["of a message without the header"]
    run(client, [sent("update", 1, "new")])
    assert texts(client) == ["new"]


def _record(client: QdrantClient) -> Any:
    return client.scroll(cleaned("posts"))[0][0].id


def test_a_replayed_message_of_another_producer_takes_nothing_away(client: QdrantClient) -> None:
    """Its replay has a version, which it had not; it still proves nothing about MongoDB."""
    run(client, [sent("insert", 0, "good", 1 << 32)])
    broken = Delivery("default", b'{"type": "posts", "entry_id": "a"}')
    for _ in range(2):
        letters = run(client, [broken])
        [broken] = put_back(letters, None)
        assert "version" in broken.headers
    assert texts(client) == ["good"]


def test_a_message_of_another_producer_that_ran_out_of_deliveries_takes_nothing_away(
    client: QdrantClient,
) -> None:
    """The broker itself has moved it, without a header of ours; its replay has a version."""
    run(client, [sent("insert", 0, "good", 1 << 32)])
    moved = Message("default.dlq", b'{"type": "posts", "entry_id": "a"}')
    [again] = put_back([moved], None)
    assert "version" in again.headers
    assert len(run(client, [again])) == 1
    assert texts(client) == ["good"]


def test_a_replayed_drop_goes_back_to_its_own_queue() -> None:
    """Each queue has its own, and removes the documents of that queue only."""
    drop = ChangeEvent.from_change(CapturedChange("drop", "posts", NOW)).to_message("q.2")
    delivery = Delivery("q.2", drop.body, drop.headers)
    letter = DeadLetter.of(delivery, "index", ValueError("refused")).to_message("q.dlq")
    put = replayed([letter], None, NOW >> 32, "q", RABBITMQ_PARTITIONS="4")
    assert [message.queue for message in put] == ["q.2"]


def test_a_version_that_cannot_be_read_is_older_than_any(client: QdrantClient) -> None:
    run(client, [sent("insert", 0, "damaged")])
    client.set_payload(cleaned("posts"), {"version": "x"}, [_record(client)])
    run(client, [sent("update", 0, "mended", 1)])
    assert texts(client) == ["mended"]


def test_changes_of_a_transaction_have_message_ids_of_their_own() -> None:
    changes = [CapturedChange("update", "posts", NOW, "a", {}, ordinal=i) for i in range(3)]
    messages = [ChangeEvent.from_change(change).to_message("q") for change in changes]
    assert len({message.message_id for message in messages}) == 3


def test_versions_are_ordered_by_cluster_time_first() -> None:
    assert Version(1) < Version(1, 1) < Version(1, MAX_ORDINAL) < Version(2)
