"""Messages of producers that give no version, among those of the change stream."""

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from connectors.qdrant import vectors_of
from tests.unit.test_index import World, change


@pytest.fixture
def world() -> Iterator[World]:
    world = World(QdrantClient(":memory:"))
    yield world
    world.store.close()


def test_it_is_not_newer_than_the_drop_after_it(world: World) -> None:
    """It counts as made when it is read: before the drop."""
    drop = change(None, 3, op="drop", entry_id="")
    assert world.apply(change("a", 1, fenced=False), drop) == ["upserted", "dropped"]
    assert world.points(vectors_of("posts")) == {}


def test_it_takes_over_the_version_of_the_change_before_it(world: World) -> None:
    """A change that is older than that one, and comes late, would overwrite it otherwise."""
    assert "upserted" in world.apply(change("a", 10), change("b", 1, fenced=False))
    assert (world.record() or {})["version"] == 10
    assert world.apply(change("late", 5)) == ["stale"]
    assert world.words() == ["b"]
