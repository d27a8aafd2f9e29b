"""Collecting from a real server into a real MongoDB: nothing twice, nothing missing, no event for
nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from qdrant_client import QdrantClient

from models import CapturedChange
from models.metrics import CHUNKS_EMBEDDED
from ops.flow_process import FlowProcess
from tests.processes import ROOT
from tests.unit.test_flows import delivery
from tests.unit.test_flows import run as run_features
from tests.web import Answer, Site, item, rss, serving

pytestmark = pytest.mark.mongodb

Documents = dict[str, Any]


class Here:
    """Databases and a sources.toml of one test, and a site to collect from."""

    def __init__(self, uri: str, folder: Path, site: Site) -> None:
        self.site = site
        self.folder = folder
        self.name = f"collect_{time.monotonic_ns()}"
        self.uri = uri
        self.client: MongoClient[Documents] = MongoClient(uri)

    @property
    def database(self) -> Database[Documents]:
        return self.client[self.name]

    @property
    def states(self) -> Any:
        return self.client[f"{self.name}_cdc"].collected

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MONGO_DATABASE_HOST": self.uri,
            "MONGO_DATABASE_NAME": self.name,
            "MONGO_CHECKPOINT_DATABASE": f"{self.name}_cdc",
            "COLLECT_SOURCES": str(self.folder / "sources.toml"),
        }

    def sources(self, **tables: str) -> None:
        """Feeds of the site, each with some more options."""
        text = ""
        for name, more in tables.items():
            url = "" if "url" in more else f'url = "{self.site.url(f"/{name}")}"\n'
            text += f'[sources.{name}]\nkind = "feed"\n{url}author = "jane"\n'
            text += f"allow_private = true\ndelay = 0\n{more}\n"
        (self.folder / "sources.toml").write_text(text)

    def collect(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
        """Run `python -m flows.collect --once` here, in this process; its exit code and answer."""
        from flows import collect

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code = collect.main(["--once", *arguments])
        return code, capsys.readouterr().out

    def titles(self, collection: str = "articles") -> dict[str, str]:
        found = self.database[collection].find()
        return {one["content"]["Title"]: one["content"].get("Content", "") for one in found}


@pytest.fixture
def here(mongo_uri: str, tmp_path: Path) -> Iterator[Here]:
    with serving() as site:
        here = Here(mongo_uri, tmp_path, site)
        yield here
    for name in (here.name, f"{here.name}_cdc"):
        here.client.drop_database(name)
    here.client.close()


def serve(here: Here, path: str, *items: str, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    here.site.answers[f"/{path}"] = Answer(rss(*items), headers=named)


def test_ten_sources_twice_and_the_second_run_writes_nothing(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"blog{i}" for i in range(10)]
    here.sources(**dict.fromkeys(names, ""))
    for name in names:
        here.site.answers[f"/{name}"] = Answer(rss(*(item(f"{name}-{i}") for i in range(20))))
    code, answer = here.collect(capsys)
    assert code == 0, answer
    assert here.database.articles.count_documents({}) == 200
    before = list(here.database.articles.find().sort("_id"))
    with here.database.watch() as stream:
        code, answer = here.collect(capsys)
        assert stream.try_next() is None
    assert code == 0
    assert answer.count("0 written, 20 unchanged") == 10
    # also where everything is read again
    code, answer = here.collect(capsys, "--again")
    assert answer.count("20 fetched, 0 written, 20 unchanged") == 10
    assert list(here.database.articles.find().sort("_id")) == before


def test_one_edited_post_is_exactly_one_event(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(blog="")
    posts = [item("one", category="ai"), item("two"), item("three")]
    serve(here, "blog", *posts)
    here.collect(capsys)
    serve(here, "blog", item("one", "Another text."), *posts[1:])
    with here.database.watch() as stream:
        here.collect(capsys)
        event = stream.next()
        assert event["operationType"] in ("replace", "update")
        assert event["documentKey"]["_id"] == "https://blog.example/one"
        assert stream.try_next() is None
    document = here.database.articles.find_one({"_id": "https://blog.example/one"})
    assert document is not None
    assert "Another text." in document["content"]["Content"]
    assert "tags" not in document, "a field that vanishes at the source vanishes here"


def test_of_an_edited_post_only_the_changed_chunks_are_embedded(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(blog="")
    told = [f"Paragraph {i} says " + f"something of its own about {i} " * 30 for i in range(40)]
    serve(here, "blog", item("one", "</p><p>".join(told)))
    client = QdrantClient(":memory:")
    embedded: list[float] = []
    with here.database.watch() as stream:
        for _ in range(2):
            here.collect(capsys)
            event = stream.next()
            document = event["fullDocument"]
            change = CapturedChange(
                event["operationType"], "articles", len(embedded) + 1, document["_id"], document
            )
            before = CHUNKS_EMBEDDED._value.get()
            assert run_features(client, [delivery(change)]) == []
            embedded.append(CHUNKS_EMBEDDED._value.get() - before)
            told[20] += " and a word more"
            serve(here, "blog", item("one", "</p><p>".join(told)))
    client.close()
    assert embedded[0] > 10
    assert 1 <= embedded[1] <= 2


def test_a_feed_that_has_not_changed_is_not_sent_again(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(blog="")
    serve(here, "blog", item("one"), ETag='"1"')
    here.collect(capsys)
    code, answer = here.collect(capsys)
    assert (code, "0 fetched, 0 written, 1 unchanged" in answer) == (0, True)
    assert here.site.asked[-1][1]["if-none-match"] == '"1"'
    # what somebody has deleted comes back, although the server calls it unchanged
    here.database.articles.delete_many({})
    here.collect(capsys)
    here.collect(capsys)
    assert set(here.titles()) == {"one"}


def test_a_document_that_was_not_collected_is_left_alone(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = {"_id": "https://blog.example/one", "content": {"Title": "mine", "Content": "My own."}}
    here.database.articles.insert_one(dict(mine))
    here.sources(blog="prune = true\nwhole = true")
    serve(here, "blog", item("one"), item("two"))
    code, answer = here.collect(capsys)
    assert code == 1
    assert "1 failed" in answer
    assert "left alone" in answer
    assert here.database.articles.find_one({"_id": mine["_id"]}) == mine
    serve(here, "blog", item("two"))
    assert here.collect(capsys)[0] == 0
    assert set(here.titles()) == {"mine", "two"}


def test_a_link_of_two_sources_stays_with_the_first(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(first="", second="")
    serve(here, "first", item("one", "as the first has it"))
    here.collect(capsys, "--source", "first")
    serve(here, "second", item("one", "as the second has it"), item("two"))
    for _ in range(2):
        code, _ = here.collect(capsys, "--again")
        assert code == 0
        assert "as the first has it" in here.titles()["one"]
    here.sources(second='formerly = ["first"]')
    here.collect(capsys, "--again")
    assert "as the second has it" in here.titles()["one"]


def test_a_source_with_more_runs_hands_its_documents_over(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(here, "young", item("one", "as it was"))
    here.sources(young="")
    here.collect(capsys)
    here.sources(old="", young="")
    for text in ("first", "second", "third"):
        serve(here, "old", item("two", text), item("gone", text))
        here.collect(capsys)
    serve(here, "young", item("one", "as it was"), item("two", "fourth"))
    here.states.update_one({"_id": f"{here.name}/old"}, {"$inc": {"run": 10**9}})
    here.collect(capsys, "--again")
    serve(here, "old", item("two", "last words"), item("gone", "last words"))
    here.collect(capsys, "--source", "old")
    here.sources(young='formerly = ["old"]\nprune = true\nwhole = true')
    here.collect(capsys)
    assert set(here.titles()) == {"one", "two"}
    assert "fourth" in here.titles()["two"]


def test_a_lost_state_hides_no_change(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """The database of checkpoints was dropped, or has another name now."""
    here.sources(blog="prune = true\nwhole = true")
    for text in ("first", "second", "third"):
        serve(here, "blog", item("one", text), item("two", text))
        here.collect(capsys)
    here.states.drop()
    serve(here, "blog", item("one", "fourth"))
    here.collect(capsys)
    assert set(here.titles()) == {"one"}
    assert "fourth" in here.titles()["one"]


def test_what_is_gone_at_the_source_is_deleted_if_it_says_so(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(blog="prune = true\nwhole = true", other="")
    serve(here, "blog", item("one"), item("two"))
    serve(here, "other", item("three"))
    here.collect(capsys)
    for kept in (Answer(status=404), Answer(rss()), Answer(rss(item("one"))[:-40])):
        here.site.answers["/blog"] = kept
        here.collect(capsys)
        assert set(here.titles()) == {"one", "two", "three"}
    serve(here, "blog", item("two"))
    _, answer = here.collect(capsys)
    assert "1 deleted" in answer
    assert set(here.titles()) == {"two", "three"}


def test_one_source_that_fails_does_not_stop_the_others(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.sources(good="", gone="", page="", private="")
    text = (
        (here.folder / "sources.toml").read_text().rpartition("allow_private = true\ndelay = 0\n")
    )
    (here.folder / "sources.toml").write_text(text[0] + text[2])
    serve(here, "good", item("one"))
    here.site.answers["/page"] = Answer("<html>No feed</html>")
    code, answer = here.collect(capsys)
    assert code == 1
    assert set(here.titles()) == {"one"}
    lines = {line.partition(":")[0]: line for line in answer.splitlines()}
    assert "1 written" in lines["good"]
    assert "status 404" in lines["gone"]
    assert "no feed" in lines["page"]
    assert "not public" in lines["private"]


def test_a_collector_that_was_overtaken_takes_nothing_back(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    """It had read an older text, and was held up before it wrote it."""
    from connectors.mongodb import CollectedStore
    from flows.operators.readable import prepare
    from models.collected import Collected, Prepared

    store = CollectedStore(here.client, here.name, f"{here.name}_cdc", ("posts",))

    def post(text: str) -> Prepared:
        step = prepare(Collected("posts", "a", {"content": text}))
        assert isinstance(step, Prepared)
        return step

    old, new = store.begin("s", "m"), store.begin("s", "m")
    assert store.write(new, (), [post("new")])[0].outcome == "written"
    assert store.write(old, (), [post("old")])[0].outcome == "unchanged"
    assert store.prune(old, (), lambda _type, _id: False) == 0
    assert not store.finish(old, {"n": "old"})
    assert store.finish(new, {"n": "new"})
    [document] = here.database.posts.find()
    assert document["content"] == "new"
    assert store.begin("s", "m").state == {"n": "new"}
    assert store.begin("s", "another mark").state == {}


def test_a_document_that_mongodb_refuses_stops_no_other(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    from connectors.mongodb import CollectedStore
    from flows.operators.readable import prepare
    from models.collected import Collected

    store = CollectedStore(here.client, here.name, f"{here.name}_cdc", ("posts",))
    run = store.begin("s", "m")
    steps = [prepare(Collected("posts", key, {"content": key})) for key in ("a", "b")]
    first, second = store.write(run, (), steps[:1]), store.write(run, (), steps)  # type: ignore[arg-type]
    assert [one.outcome for one in (*first, *second)] == ["written", "written", "written"]
    again = store.begin("s", "m")
    assert [one.outcome for one in store.write(again, (), steps)] == ["unchanged", "unchanged"]  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_collector_that_is_killed_between_documents_writes_nothing_twice_and_misses_nothing(
    here: Here,
) -> None:
    here.sources(blog="")
    serve(here, "blog", *(item(f"post-{i}") for i in range(400)), ETag='"1"')
    command = [sys.executable, "-m", "flows.collect", "--once"]
    environment = {**os.environ, **here.environment}
    with here.database.watch() as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not here.database.articles.estimated_document_count():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        half = here.database.articles.count_documents({})
        assert 0 < half < 400, "the kill came between documents"
        assert here.states.find_one({}).get("state") is None, "and before the state"
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"{400 - half:,} written, {half:,} unchanged" in done.stdout
        events: dict[str, int] = {}
        for _ in range(400):
            event = stream.next()
            assert event["operationType"] == "insert"
            id_ = event["documentKey"]["_id"]
            events[id_] = events.get(id_, 0) + 1
        assert stream.try_next() is None
    assert set(events.values()) == {1}
    assert len(events) == 400


def test_the_flow_keeps_looking_until_it_is_told_to_end(here: Here, tmp_path: Path) -> None:
    here.sources(blog="interval = 1", away="interval = 1")
    serve(here, "blog", item("one"))
    environment = {**here.environment, "BYTEWAX_SNAPSHOT_INTERVAL": "1"}
    with FlowProcess("flows.collect", environment, tmp_path / "collect.log") as flow:
        wait_for(lambda: set(here.titles()) == {"one"})
        serve(here, "blog", item("one", "Another text."), item("two"))
        wait_for(lambda: set(here.titles()) == {"one", "two"})
        assert flow.terminate() == 0
    assert "Another text." in here.titles()["one"]
    assert flow.output().count("status 404") == 1, "the same failure is told once"


def test_without_the_extra_one_line_says_how_to_get_it() -> None:
    program = "import sys; sys.modules['feedparser'] = None; import flows.collect"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    line = "configuration error: feedparser is missing: pip install '.[collect]'\n"
    assert done.stderr == line


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)
