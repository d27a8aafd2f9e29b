"""A kill after every single write of a batch: what a reader finds then, what can come back, and how
a redelivery ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from connectors.qdrant import cleaned, vectors_of
from flows.operators import index
from models.fresh import MAY_DIFFER
from models.prepared import Prepared
from models.stored import Key
from retrieval.client import RetrievalClient
from tests.unit.test_index import World, change


class Killed(BaseException):
    """SIGKILL."""


class Mortal:
    """A Qdrant client whose process is killed after so many writes.

    It writes one point at a time: the product divides requests by size, so a kill can come between
    any two points. A write that nobody waits for is not applied before the kill.
    """

    def __init__(self, client: QdrantClient, writes: int) -> None:
        self._client = client
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def upsert(self, collection: str, points: Sequence[q.PointStruct], wait: bool) -> Any:
        return [self._write(self._client.upsert, collection, [point], wait) for point in points]

    def delete(self, collection: str, points: q.PointIdsList, wait: bool) -> Any:
        one_by_one = [q.PointIdsList(points=[id_]) for id_ in points.points]
        return [self._write(self._client.delete, collection, one, wait) for one in one_by_one]

    def batch_update_points(self, collection: str, updates: Sequence[Any], wait: bool) -> Any:
        update = self._client.batch_update_points
        return [self._write(update, collection, [one], wait) for one in updates]

    def _write(self, write: Callable[..., Any], collection: str, what: Any, wait: bool) -> Any:
        if not self._left:
            raise Killed
        self._left -= 1
        return write(collection, what, wait=True) if wait else None


class Story(NamedTuple):
    """What is stored at first, and what a batch makes of it."""

    stored: list[Prepared]
    batch: list[Prepared]
    late: list[Prepared]
    """Older changes of what is removed, which a capture that was killed sends again."""
    states: dict[str, list[str]]
    """The whole states that each document goes through; empty where it may be missing."""
    removed: str
    """A document that is taken away, ..."""
    chunks: int
    """... and how many chunks it had."""

    def redelivered(self) -> list[Prepared]:
        return [
            replace(one, delivery=replace(one.delivery, redelivered=True)) for one in self.batch
        ]


CHANGES = Story(
    stored=[
        change("stays gone also-stays also-gone", 1, entry_id="edited"),
        change("as before", 1, entry_id="moved"),
        change("just the same", 1, entry_id="same"),
        change("three more words", 1, entry_id="removed"),
        change("not touched", 1, entry_id="bystander"),
    ],
    batch=[
        change("stays new also-stays newer", 3, entry_id="edited", author="you"),
        change("as before", 3, entry_id="moved", author="you"),
        change("just the same", 3, entry_id="same"),
        change(None, 3, entry_id="removed"),
        change("came in now", 3, entry_id="new"),
    ],
    late=[change("three more words", 2, entry_id="removed")],
    states={
        "edited": ["stays gone also-stays also-gone", "stays new also-stays newer"],
        "moved": ["as before"],
        "same": ["just the same"],
        "new": ["", "came in now"],
        "bystander": ["not touched"],
    },
    removed="removed",
    chunks=3,
)
DROP = Story(
    stored=[
        change("the old state", 1, entry_id="edited"),
        change("goes with it", 1, entry_id="removed"),
        change("too new for it", 5, entry_id="bystander"),
    ],
    batch=[
        change("an edit before", 2, entry_id="edited"),
        change(None, 3, op="drop", entry_id=""),
        change("came in after", 4, entry_id="new"),
    ],
    late=[
        change("goes with it", 2, entry_id="removed"),
        change("is not stored now", 2, entry_id="unknown"),
    ],
    states={"bystander": ["too new for it"], "new": ["", "came in after"]},
    removed="removed",
    chunks=3,
)
STORIES = pytest.mark.parametrize("story", [CHANGES, DROP], ids=["changes", "drop"])


@pytest.fixture(autouse=True)
def _a_drop_in_several_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "REMOVALS_PER_WRITE", 1)


def killed(story: Story) -> Iterator[World]:
    """The store after each kill, as the next process opens it; the last one has the whole batch."""
    for writes in count():
        with closing(QdrantClient(":memory:")) as client:
            World(client).apply(*story.stored)
            try:
                World(Mortal(client, writes)).apply(*story.batch)  # type: ignore[arg-type]
            except Killed:
                yield World(client)
            else:
                yield World(client)
                assert writes > 12, "fewer writes than there are to be"
                return


def found(world: World) -> dict[str, set[str]]:
    """What a search for anything finds of each document."""
    hits: dict[str, set[str]] = {}
    client = RetrievalClient(world.client, world.embedder)
    for hit in client.search("anything", limit=1000, types=["posts"]):
        hits.setdefault(hit.entry_id, set()).add(hit.content)
    return hits


def chunks_of(world: World, entry_id: str) -> dict[str, dict[str, Any]]:
    points = world.points(vectors_of("posts"))
    return {id_: point for id_, point in points.items() if point["entry_id"] == entry_id}


def contents(world: World) -> dict[str, dict[str, Any]]:
    """Everything but when it was written."""
    return {
        id_: {name: value for name, value in payload.items() if name not in MAY_DIFFER}
        for collection in (cleaned("posts"), vectors_of("posts"))
        for id_, payload in world.points(collection).items()
    }


def written(story: Story) -> dict[str, dict[str, Any]]:
    """What a store holds that nobody has killed."""
    with closing(QdrantClient(":memory:")) as client:
        world = World(client)
        world.apply(*story.stored)
        world.apply(*story.batch)
        return contents(world)


@STORIES
def test_a_reader_finds_all_of_one_state_after_any_kill(story: Story) -> None:
    """Of a new document its first chunks, never an edited one without a whole state."""
    for world in killed(story):
        hits = found(world)
        for entry_id, states in story.states.items():
            seen = hits.get(entry_id, set())
            assert any(seen >= set(state.split()) for state in states), entry_id
            if "" in states:
                assert any(seen <= set(state.split()) for state in states), entry_id


@STORIES
def test_a_record_has_its_new_version_only_when_nothing_of_its_document_is_left_to_do(
    story: Story,
) -> None:
    """Whoever believes the record finds each chunk that it names, none beside them, and the same
    metadata in all of them.
    """
    versions = {one.key.entry_id: one.event.version.time for one in story.batch}
    seen = 0
    for world in killed(story):
        for record in world.points(cleaned("posts")).values():
            key = Key("posts", record["entry_id"])
            newest = world.store.read([key])[key].version.time  # a drop may be newer
            if not record["version"] == newest == versions.get(key.entry_id):
                continue
            seen += 1
            chunks = chunks_of(world, record["entry_id"])
            assert sorted(chunks) == sorted(record["chunk_ids"]), record["entry_id"]
            assert {point["author_id"] for point in chunks.values()} == {record["author_id"]}
    assert seen >= 2


@STORIES
def test_what_a_kill_left_half_removed_does_not_come_back(story: Story) -> None:
    """Its older changes may be sent again, and reach the store before the redelivered batch."""
    begun = 0
    for world in killed(story):
        left = chunks_of(world, story.removed)
        if len(left) == story.chunks and world.record(story.removed):
            continue
        begun += 1
        assert set(world.apply(*story.late)) == {"stale"}
        assert chunks_of(world, story.removed) == left
    assert begun > 3


@STORIES
@pytest.mark.parametrize("again", [None, 1, 4, 9], ids=lambda n: f"again-{n}" if n else "once")
def test_a_redelivery_ends_in_sync_after_any_kill(story: Story, again: int | None) -> None:
    """Also if it is killed itself, and if older changes come before it."""
    want = written(story)
    for world in killed(story):
        if again is not None:
            world.apply(*story.late)
            dying: Any = Mortal(world.client, again)
            with suppress(Killed):
                World(dying).apply(*story.redelivered())
        world.apply(*story.redelivered())
        assert contents(world) == want
        assert set(world.apply(*story.late)) == {"stale"}
        assert contents(world) == want


def test_a_redelivery_embeds_only_what_is_missing() -> None:
    new = {"new", "newer", "came", "in", "now"}
    for world in killed(CHANGES):
        stored = {point["content"] for point in world.points(vectors_of("posts")).values()}
        world.apply(*CHANGES.redelivered())
        assert world.embedder.encoded == len(new - stored)
