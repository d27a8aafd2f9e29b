"""The features flow, and searches, while a store is kept for two models."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from connectors.qdrant import UNPREFIXED, QdrantStore, Statement, copy_tombstones
from flows import model_and_store, places
from flows.embedding.embedder import TextEmbedder, Vectors
from flows.migrate import Migration
from flows.model_and_store import ModelAndStore
from flows.settings import VARIABLES, Settings
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES, DeadLetter
from models.errors import ConfigurationError, OtherModelError
from models.events import Receipt
from models.places import FIRST, Place, Places
from models.prepared import Prepared
from retrieval import compare
from retrieval.client import RetrievalClient
from retrieval.compare import ndcg
from retrieval.following import Searches
from retrieval.sync import stored_state
from tests.hashing import HashingEmbedder
from tests.in_this_process import InThisProcess
from tests.unit.test_index import change

SETTINGS = Settings.from_env({})


class Wider(HashingEmbedder):
    name = "wider"
    dimension = 48


class Text(Chunker):
    """In place of the process that works on texts."""

    def __init__(self, model: Any) -> None:
        super().__init__(*model())

    def close(self) -> None: ...


def embedder_of(model: str) -> HashingEmbedder:
    return Wider() if model == "wider" else HashingEmbedder()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantClient]:
    with closing(QdrantClient(":memory:")) as client:
        monkeypatch.setattr(model_and_store, "open_patiently", lambda _: client)
        monkeypatch.setattr(places, "BoundedText", Text)
        yield client


@pytest.fixture
def flow(client: QdrantClient) -> ModelAndStore:
    return ModelAndStore(SETTINGS, HashingEmbedder(), InThisProcess(), embedder_of)


def stated(client: QdrantClient, transition: Any) -> None:
    Statement(client, UNPREFIXED).change(transition)


def opened(client: QdrantClient, *, ready: bool = False) -> None:
    """A second place, as `start` opens it."""
    store = QdrantStore(client, DOCUMENT_TYPES, UNPREFIXED.at("2"))
    store.ensure_collections(Wider.dimension)
    both = Places.only("hashing", "").begun("wider", "wider").created("2")
    stated(client, lambda _: both.filled("2") if ready else both)


def words(client: QdrantClient, place: str = FIRST) -> list[str]:
    state = stored_state(client, with_vectors=False, collections=UNPREFIXED.at(place))
    return sorted(point.payload["content"] for point in state.points["vector_posts"].values())


def for_place(prepared: Any, place: str) -> Prepared:
    event = prepared.event._replace(place=place)
    return type(prepared)(prepared.delivery, event, *_rest(prepared))


def _rest(prepared: Any) -> list[Any]:
    return [prepared.document, prepared.chunks] if hasattr(prepared, "chunks") else []


def test_a_change_and_a_delete_go_to_both_models(client: QdrantClient, flow: ModelAndStore) -> None:
    flow([change("a", 1)])
    opened(client)
    flow([change("a b", 2), change("c", 1, entry_id="c")])
    assert len(words(client, "2")) == 2
    flow([change(None, 3)])
    assert words(client) == words(client, "2") == ["c"]


def test_a_delete_of_what_the_backfill_has_not_reached_is_not_resurrected(
    client: QdrantClient, flow: ModelAndStore
) -> None:
    flow([change("a", 1)])
    opened(client)
    flow([change(None, 3)])
    flow([for_place(change("a", 2, op="repair"), "2")])
    assert words(client, "2") == []


def test_the_backfill_overwrites_no_newer_text(client: QdrantClient, flow: ModelAndStore) -> None:
    flow([change("a", 1)])
    opened(client)
    flow([change("newer", 3)])
    flow([for_place(change("a", 2, op="repair"), "2")])
    assert words(client, "2") == words(client) == ["newer"]


def test_a_message_of_the_backfill_is_for_its_place_only(
    client: QdrantClient, flow: ModelAndStore
) -> None:
    flow([change("a", 1)])
    opened(client)
    flow([for_place(change("b", 2, op="repair"), "2")])
    assert (words(client), words(client, "2")) == (["a"], ["b"])
    stated(client, lambda known: known.removing().removed("2"))
    assert flow([for_place(change("c", 3, op="repair"), "2")]) == []
    assert words(client) == ["a"]


def test_a_model_that_is_removed_amid_a_batch_is_not_waited_for(
    client: QdrantClient, flow: ModelAndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow([change("a", 1)])
    opened(client)
    flow([change("b", 2)])
    before = Statement(client, UNPREFIXED).read()
    assert before
    monkeypatch.setattr(places.OtherPlaces, "stated", lambda _: before)  # a batch that asked before
    Migration(SETTINGS, client, embedder_of).remove()
    results: list[Any] = []
    batch = threading.Thread(target=lambda: results.extend(flow([change("c", 3)])), daemon=True)
    batch.start()
    batch.join(10)
    assert [result.outcome for result in results] == ["upserted"]
    assert words(client) == ["c"]


def test_a_flow_goes_on_when_the_model_that_it_was_started_for_is_removed(
    client: QdrantClient, flow: ModelAndStore
) -> None:
    flow([change("a", 1)])
    opened(client, ready=True)
    flow([change("a", 2)])
    migration = Migration(SETTINGS, client, embedder_of)
    migration.switch()
    migration.remove()
    flow([change("b", 3)])
    assert words(client, "2") == ["b"]
    later = ModelAndStore(SETTINGS, None, InThisProcess(), embedder_of)
    assert later.embedder.name == "wider"
    later([change("c", 4)])
    assert words(client, "2") == ["c"]
    assert not client.collection_exists("vector_posts")


def test_a_model_that_is_missing_here_holds_changes_back_and_loses_none(
    client: QdrantClient, flow: ModelAndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = threading.Event()

    def wanted(_: str) -> HashingEmbedder:
        if not there.is_set():
            raise FileNotFoundError("there is no model at wider")
        return Wider()

    flow([change("a", 1)])
    opened(client)
    flow._others._embedder_of = wanted  # type: ignore[union-attr]
    monkeypatch.setattr(places, "Backoff", lambda *_: Now())
    batch = threading.Thread(target=flow, args=([change("b", 2)],), daemon=True)
    batch.start()
    time.sleep(0.05)
    assert batch.is_alive()
    there.set()
    batch.join(10)
    assert words(client) == words(client, "2") == ["b"]


class Now:
    def next(self) -> float:
        return 0.01


def test_a_delivery_that_fails_for_both_models_is_one_dead_letter(
    client: QdrantClient, flow: ModelAndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(HashingEmbedder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            raise ValueError("too odd")

    flow([change("a", 1)])
    opened(client)
    flow([change("a", 2)])
    for one in [flow.indexer(), *[open_.indexer for open_ in flow._others._all()]]:  # type: ignore[union-attr]
        one._writer._embedder = Refusing()
    odd = change("odd", 3)
    odd = type(odd)(
        odd.delivery.__class__("q", b"", receipt=Receipt("q", 0, 1)),
        odd.event, *_rest(odd),
    )  # fmt: skip
    assert len([one for one in flow([odd]) if isinstance(one, DeadLetter)]) == 1


class TestSearches:
    @pytest.fixture
    def filled(self, client: QdrantClient, flow: ModelAndStore) -> QdrantClient:
        flow([change("a", 1)])
        opened(client, ready=True)
        flow([change("a", 2)])
        return client

    @staticmethod
    def of(place: Place | None) -> TextEmbedder:
        return embedder_of(place.setting if place else "")

    def name(self, client: RetrievalClient) -> str:
        assert client.search("a")
        return client._embedder.name

    def test_they_follow_a_switch_and_a_rollback(
        self, filled: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.following.LOOK_EVERY_S", 0.0)
        searches = Searches(filled, self.of)
        migration = Migration(SETTINGS, filled, embedder_of)
        assert self.name(searches.client()) == "hashing"
        migration.switch()
        searches.client()
        assert searches._loading
        searches._loading.join()
        assert self.name(searches.client()) == "wider"
        migration.rollback()
        assert self.name(searches.client()) == "hashing"
        migration.switch()
        assert self.name(searches.client()) == "wider"

    def test_they_go_on_by_the_old_model_while_the_new_one_is_loaded(
        self, filled: QdrantClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.following.LOOK_EVERY_S", 0.0)
        loaded = threading.Event()

        def slow(place: Place | None) -> TextEmbedder:
            if place and place.model == "wider":
                assert loaded.wait(10)
            return self.of(place)

        searches = Searches(filled, slow)
        searches.client()
        Migration(SETTINGS, filled, embedder_of).switch()
        assert self.name(searches.client()) == "hashing"
        loaded.set()
        assert searches._loading
        searches._loading.join()
        assert self.name(searches.client()) == "wider"

    def test_a_client_of_a_removed_model_says_so_instead_of_finding_nothing(
        self, filled: QdrantClient
    ) -> None:
        searches = Searches(filled, self.of)
        old = searches.client()
        migration = Migration(SETTINGS, filled, embedder_of)
        migration.switch()
        assert old.search("a")
        filled.delete_collection("vector_articles")  # amid the removal
        stated(filled, lambda known: known.removing())
        with pytest.raises(OtherModelError, match="was migrated to 'wider'"):
            old.search("a")
        assert searches.search("a")

    def test_a_model_that_cannot_be_loaded_is_told(self, filled: QdrantClient) -> None:
        migration = Migration(SETTINGS, filled, embedder_of)
        migration.switch()

        def none(place: Place | None) -> TextEmbedder:
            raise FileNotFoundError("no such folder")

        with pytest.raises(
            OtherModelError, match="wider, which cannot be used here: no such folder"
        ):
            Searches(filled, none).client()


class TestCommands:
    def test_start_refuses_a_store_of_another_model(
        self, client: QdrantClient, flow: ModelAndStore
    ) -> None:
        migration = Migration(SETTINGS, client, embedder_of)
        with pytest.raises(ConfigurationError, match="no chunks yet"):
            migration.start("wider")
        flow([change("a", 1)])
        wrong = Migration(SETTINGS, client, lambda model: embedder_of("" if model else "wider"))
        with pytest.raises(ConfigurationError, match="were embedded by hashing"):
            wrong.start("hashing")
        assert not client.collection_exists("models")

    @pytest.mark.parametrize("step", range(8))
    def test_start_goes_on_after_a_kill_between_any_two_of_its_writes(
        self,
        client: QdrantClient,
        flow: ModelAndStore,
        monkeypatch: pytest.MonkeyPatch,
        step: int,
    ) -> None:
        flow([change("a", 1)])
        left = [step]
        for name in ("create_collection", "create_payload_index", "upsert"):
            write = getattr(client, name)

            def killed(*some: Any, write: Any = write, **named: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise SystemExit
                return write(*some, **named)

            monkeypatch.setattr(client, name, killed)
        monkeypatch.setattr(Migration, "_fill", lambda *_: 0)
        migration = Migration(SETTINGS, client, embedder_of)
        with suppress(SystemExit):
            migration.start("wider")
        if step:
            flow([change("b", 2)])
        assert migration.start("wider") == 0
        known = Statement(client, UNPREFIXED).read()
        assert known
        assert [place.state for place in known.places] == ["ready", "filling"]
        flow([change("c", 3)])
        assert words(client) == words(client, "2") == ["c"]

    def test_a_replay_brings_nothing_back_that_was_deleted_before_the_migration(
        self, client: QdrantClient, flow: ModelAndStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dropped = [change("c", 1, entry_id="c"), change(None, 4, op="drop")]
        flow([*dropped, change("a", 1), change("b", 5, entry_id="b"), change(None, 5)])
        monkeypatch.setattr(Migration, "_fill", lambda *_: 0)
        Migration(SETTINGS, client, embedder_of).start("wider")
        flow([change("a", 3), change("c", 2, entry_id="c"), change("d", 6, entry_id="d")])
        assert words(client) == ["b", "d"]
        assert words(client, "2") == ["d"]

    def test_the_delete_of_a_batch_that_was_under_way_is_known_at_the_new_place(
        self, client: QdrantClient, flow: ModelAndStore
    ) -> None:
        flow([change("a", 1)])
        opened(client)
        flow([change(None, 7)])
        flow.indexer()([change("b", 2, entry_id="b"), change(None, 5, entry_id="b")])
        assert copy_tombstones(client, UNPREFIXED, UNPREFIXED.at("2")) == 1
        assert copy_tombstones(client, UNPREFIXED, UNPREFIXED.at("2")) == 0
        flow([change("b", 4, entry_id="b"), change("a", 6)])
        assert words(client, "2") == []

    def test_nothing_is_switched_or_removed_without_a_migration(
        self, client: QdrantClient, flow: ModelAndStore
    ) -> None:
        flow([change("a", 1)])
        migration = Migration(SETTINGS, client, embedder_of)
        for command in (migration.switch, migration.rollback, migration.remove):
            with pytest.raises(ConfigurationError, match="call start first"):
                command()
        assert words(client) == ["a"]

    def test_a_removal_that_was_killed_goes_on(
        self, client: QdrantClient, flow: ModelAndStore, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flow([change("a", 1)])
        opened(client, ready=True)
        stated(client, lambda known: known.removing())
        client.delete_collection("vector_posts-2")
        migration = Migration(SETTINGS, client, embedder_of)
        assert migration.remove() == migration.remove() == 0
        assert not [one.name for one in client.get_collections().collections if "-2" in one.name]
        assert migration.status() == 0
        assert "searched  hashing: 1 documents, 1 chunks" in capsys.readouterr().out


class TestCompare:
    def test_a_document_that_is_found_first_counts_more(self) -> None:
        answers = frozenset("ab")
        assert ndcg(["a", "b", "c"], answers) == 1
        assert 0 < ndcg(["c", "a"], answers) < ndcg(["a", "c"], answers) < 1
        assert ndcg(["c"], answers) == ndcg([], answers) == 0

    def test_models_are_compared_by_the_queries_of_a_file(
        self,
        client: QdrantClient,
        flow: ModelAndStore,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(compare, "open_reader", lambda _: nullcontext(client))
        flow([change("a", 1)])
        with pytest.raises(ConfigurationError, match="one model only"):
            compare.main([], embedder_of)
        opened(client)
        with pytest.raises(ConfigurationError, match="let start end first"):
            compare.main([], embedder_of)
        stated(client, lambda known: known.filled("2"))
        flow([change("ships", 2), change("trains", 1, entry_id="b")])
        (tmp_path / "queries").write_text("ships\ta\ntrains\tb\n\nplanes\n")
        assert compare.main(["--queries", "queries"], embedder_of) == 0
        said = capsys.readouterr().out
        assert said.startswith("3 queries")
        assert "nDCG@10 of hashing, which is searched: 1.000" in said
        assert "nDCG@10 of wider: 1.000, which is +0.000" in said


def test_a_place_that_is_removed_while_its_model_is_loaded_is_not_made_again(
    client: QdrantClient, flow: ModelAndStore
) -> None:
    """Loading takes seconds to minutes, in which the operator goes on."""
    flow([change("a", 1)])
    opened(client, ready=True)
    flow([change("a", 2)])
    migration = Migration(SETTINGS, client, embedder_of)
    removed: list[bool] = []

    class Loading(HashingEmbedder):
        @property
        def dimension(self) -> int:  # type: ignore[override]
            if not removed:
                removed.append(True)
                migration.switch()
                migration.remove()
            return HashingEmbedder.dimension

    def slow(model: str) -> HashingEmbedder:
        return embedder_of(model) if model == "wider" else Loading()

    ModelAndStore(SETTINGS, None, InThisProcess(), slow).load()
    assert removed
    assert not client.collection_exists("vector_posts")


def test_an_empty_place_that_was_removed_is_not_taken_for_one_without_hits(
    client: QdrantClient, flow: ModelAndStore
) -> None:
    flow([change("a", 1)])
    opened(client, ready=True)
    flow([change("a", 2)])
    migration = Migration(SETTINGS, client, embedder_of)
    migration.switch()
    migration.remove()
    QdrantStore(client, DOCUMENT_TYPES).ensure_collections(HashingEmbedder.dimension)
    with pytest.raises(OtherModelError, match="was removed from the store"):
        RetrievalClient(client, HashingEmbedder()).search("a")


def test_searches_do_not_wait_in_a_row_for_a_store_that_hangs() -> None:
    limit_s, asked = 0.3, []

    class Hanging:
        def collection_exists(self, name: str) -> bool:
            asked.append(name)
            time.sleep(limit_s)
            raise UnexpectedResponse(503, "it hangs", b"", httpx.Headers())

    searches = Searches(Hanging(), lambda _: HashingEmbedder())  # type: ignore[arg-type]

    def search() -> None:
        with suppress(UnexpectedResponse):
            searches.search("a")

    threads = [threading.Thread(target=search) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(asked) <= 4
