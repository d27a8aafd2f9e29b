"""`flows.features` that writes down what it did when; run by the rows, not by people.

`BENCH_LOG`: file that gets a JSON line before the first and after each batch: the moment, and up
to then chunks embedded, documents, seconds that the store took, and seconds that cleaning and
cutting took. `BENCH_EMBEDDER=hashing`: without the model. `BENCH_STORE=none`: a store that keeps
nothing, to see everything else.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bytewax.dataflow import Dataflow

from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from models import Version
from models.stored import Key, Stored
from tests.hashing import HashingEmbedder

T = TypeVar("T")


class NoStore:
    """Takes everything and knows nothing."""

    def read(self, keys: Sequence[Key], list_chunks: Collection[Key] = ()) -> dict[Key, Stored]:
        return {key: Stored(chunks={} if key in list_chunks else None) for key in keys}

    def hollow(self, named: Mapping[Key, Sequence[str]]) -> set[Key]:
        return set()

    def live(self, type_: str, older_than: Version) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        return iter(())

    def _nothing(self, *arguments: Any) -> None: ...

    fence_type = upsert_chunks = bury = update_chunks = delete_chunks = _nothing
    refresh_records = upsert_records = delete_records = suspect = _nothing

    def prune_tombstones(self, deleted_before: float) -> int:
        return 0

    def close(self) -> None: ...


class Timed:
    """Adds up the time that the methods of something take."""

    def __init__(self, something: Any) -> None:
        self._something = something
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._something, name)
        return self._timed(method) if callable(method) else method

    def _timed(self, method: Callable[..., T]) -> Callable[..., T]:
        def call(*arguments: Any, **named: Any) -> T:
            begun = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - begun

        return call


class TimedModelAndStore(ModelAndStore):
    """Logs every batch."""

    def __init__(self, settings: Settings, log: Path) -> None:
        hashing = os.environ.get("BENCH_EMBEDDER") == "hashing"
        super().__init__(settings, HashingEmbedder() if hashing else None)
        self._log = log.open("a", buffering=1)
        self._documents = self._chunks = 0
        self._timed: Timed | None = None
        self._text = self.text = Timed(self.text)  # type: ignore[assignment]  # it stands in

    def _open(self) -> Any:
        self._timed = Timed(self._store_named(os.environ.get("BENCH_STORE", "")))
        return self._timed

    def _store_named(self, name: str) -> Any:
        if name == "none":
            return NoStore()
        return super()._open()

    def __call__(self, batch: list[Any]) -> list[Any]:
        if not self._documents:
            self._note()
        results = super().__call__(batch)
        self._documents += len(batch)
        self._chunks += sum(getattr(result, "embedded", 0) for result in results)
        self._note()
        return results

    def _note(self) -> None:
        store = self._timed.seconds if self._timed else 0.0
        line = [time.monotonic(), self._chunks, self._documents, store, self._text.seconds]
        self._log.write(json.dumps(line) + "\n")


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    log = Path(f"{os.environ['BENCH_LOG']}-{os.getpid()}")
    return assemble(settings, TimedModelAndStore(settings, log))
