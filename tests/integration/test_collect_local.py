"""Repositories and exports collected into a real MongoDB: no event for nothing, one for an edit."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from flows import collect
from tests.repositories import Repository

pytestmark = pytest.mark.mongodb

SOURCES = """
[sources.code]
kind = "git"
url = "{url}"
link = "https://example.org/code"
author = "ada"
allow_local = true

[sources.linkedin]
kind = "linkedin"
path = "export.zip"
author = "ada"

[sources.lines]
kind = "jsonl"
path = "lines.jsonl"
type = "posts"
author = "ada"

[sources.old]
kind = "mongoexport"
path = "old.json"
type = "articles"
author = "ada"

[sources.blog]
kind = "markdown"
path = "blog"
author = "ada"
prune = true
"""
SHARES = """Date,ShareLink,ShareCommentary,SharedUrl,MediaUrl,Visibility
2026-04-01 12:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A1,A post,,,PUBLIC
"""
OLD = '{"_id":{"$oid":"5f43a1b2c3d4e5f60718293a"},"content":{"Title":"t","Content":"c"}}'


class Here:
    def __init__(self, uri: str, folder: Path) -> None:
        self.name = f"local_{time.monotonic_ns()}"
        self.uri = uri
        self.folder = folder
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.repository = Repository(folder / "r.git")
        self.repository.commit(
            {"a.py": b"x = 1\n", "$cash.py": b"y", "dir/b.c.d": b"z", "n": b"\0"}
        )
        (folder / "sources.toml").write_text(SOURCES.format(url=self.repository.url))
        with zipfile.ZipFile(folder / "export.zip", "w") as file:
            file.writestr("Shares.csv", SHARES)
        lines = [{"_id": "one", "content": "1"}, {"_id": "two", "content": {"a": "2"}}]
        (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (folder / "old.json").write_text(f"[{OLD}]")
        (folder / "blog").mkdir()
        for name in ("first", "second"):
            (folder / "blog" / f"{name}.md").write_text(f"---\ntitle: {name}\n---\nText.")

    @property
    def database(self) -> Database[dict[str, Any]]:
        return self.client[self.name]

    def collect(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MONGO_DATABASE_HOST", self.uri)
            patch.setenv("MONGO_DATABASE_NAME", self.name)
            patch.setenv("MONGO_CHECKPOINT_DATABASE", f"{self.name}_cdc")
            patch.setenv("COLLECT_SOURCES", str(self.folder / "sources.toml"))
            code = collect.main(["--once"])
        return code, capsys.readouterr().out

    def events(self, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
        """Collect; what happened to which collection meanwhile."""
        with self.database.watch(max_await_time_ms=200) as stream:
            code, answer = self.collect(capsys)
            assert code == 0, answer
            found = []
            while event := stream.try_next():
                found.append((event["operationType"], event["ns"]["coll"]))
        return found


@pytest.fixture
def here(mongo_uri: str, tmp_path: Path) -> Iterator[Here]:
    here = Here(mongo_uri, tmp_path)
    yield here
    for name in (here.name, f"{here.name}_cdc"):
        here.client.drop_database(name)
    here.client.close()


def test_every_kind_of_local_source_is_written_once(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = here.collect(capsys)
    assert code == 0, answer
    counts = {name: here.database[name].count_documents({}) for name in ("posts", "articles")}
    assert counts == {"posts": 3, "articles": 3}
    [repository] = here.database.repositories.find()
    assert repository["_id"] == "https://example.org/code#ada"
    assert repository["content"] == {"$cash.py": "y", "a.py": "x = 1\n", "dir/b.c.d": "z"}
    assert repository["left_out"] == {"binary": 1}
    assert here.database.articles.find_one({"_id": "5f43a1b2c3d4e5f60718293a"}) is not None
    assert here.events(capsys) == [], "a second run writes nothing"


def test_a_change_at_a_source_is_one_event(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.collect(capsys)
    here.repository.commit({"a.py": b"x = 1\n", "$cash.py": b"y", "dir/b.c.d": b"z", "n": b"\0\1"})
    assert here.events(capsys) == [], "a commit of binary files is no event"
    here.repository.commit({"a.py": b"x = 2\n"})
    [(operation, collection)] = here.events(capsys)
    assert (operation, collection) in [("replace", "repositories"), ("update", "repositories")]
    [repository] = here.database.repositories.find()
    assert repository["content"] == {"a.py": "x = 2\n"}, "what is gone at the source is gone here"
    (here.folder / "blog" / "second.md").unlink()
    assert here.events(capsys) == [("delete", "articles")]


def test_a_repository_that_was_deleted_by_hand_comes_back(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.collect(capsys)
    here.database.repositories.delete_many({})
    for _ in range(2):  # the first reading notices, the second reads everything again
        here.collect(capsys)
    assert here.database.repositories.count_documents({}) == 1


def test_a_file_that_cannot_be_read_deletes_nothing(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.collect(capsys)
    (here.folder / "blog" / "second.md").unlink()
    (here.folder / "blog" / "first.md").write_bytes(b"\xff")
    code, answer = here.collect(capsys)
    assert code == 1
    assert "first.md: it is not UTF-8" in answer
    assert here.database.articles.count_documents({}) == 3
