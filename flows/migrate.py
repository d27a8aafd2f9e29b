"""Changes the embedding model beside live flows: `python -m flows.migrate start MODEL`, and so on.

    start MODEL   write every change for this model as well, fill in what is stored, and compare
                  that with MongoDB; after a kill, call it again
    status        the models of the store, and how far each is
    switch        search by the new model from now on
    rollback      search by the old one again
    remove        delete the points of the model that is not searched

Both models are written until one is removed, so switch and rollback lose nothing. They replace one
point of the store: searches and flows read it, and need no other settings. `python -m
retrieval.compare` compares the two by what they find.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from pymongo.errors import PyMongoError
from qdrant_client import QdrantClient

from connectors.mongodb import reason_of
from connectors.qdrant import (
    STORE_ERRORS,
    QdrantStore,
    Statement,
    check_owner,
    copy_tombstones,
    count_by_model,
    one_line,
    open_client,
    read_places,
)
from flows.command import run_command
from flows.embedding.embedder import ChunkingEmbedder
from flows.embedding.precision import names_of_the_model
from flows.logs import say
from flows.places import EmbedderOf, embedders
from flows.settings import Settings
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError, PlaceGoneError, StoreUnavailableError
from models.places import Place, Places

_TYPES: Final = tuple(DOCUMENT_TYPES)
_ROUNDS: Final = 5
_OPEN_S: Final = 10


def main(arguments: Sequence[str] | None = None, embedder_of: EmbedderOf | None = None) -> int:
    """Carry out one command; the exit code.

    :param embedder_of: instead of the models that the settings and the command name
    :raises ConfigurationError: the state of the store does not allow it
    """
    options = _options(arguments)
    settings = Settings.from_env()
    settings.configure_logging()
    try:
        with closing(_opened(settings)) as client:
            migration = Migration(settings, client, embedder_of or embedders(settings))
            if options.command == "start":
                return migration.start(options.model)
            return int(getattr(migration, options.command)())
    except PlaceGoneError as error:
        raise ConfigurationError("the migration was removed meanwhile") from error
    except PyMongoError as error:
        raise ConfigurationError(f"MongoDB cannot be read: {reason_of(error)}") from error
    except STORE_ERRORS as error:
        raise ConfigurationError(f"Qdrant: {one_line(error)}") from error


def _opened(settings: Settings) -> QdrantClient:
    if not settings.qdrant.url and not settings.qdrant.path.is_dir():
        raise ConfigurationError(f"nothing stored yet: there is no folder {settings.qdrant.path}")
    try:
        client = open_client(settings.qdrant, _OPEN_S)
    except StoreUnavailableError as error:
        raise ConfigurationError(str(error)) from error
    try:
        check_owner(lambda request: request(client), settings.qdrant.collections, settings.owner)
    except BaseException:
        client.close()
        raise
    return client


class Migration:
    """The commands; each can be called again after a kill.

    :raises ConfigurationError: by each, if the state of the store does not allow it
    """

    def __init__(self, settings: Settings, client: QdrantClient, embedder_of: EmbedderOf) -> None:
        self._settings = settings
        self._client = client
        self._names = settings.qdrant.collections
        self._embedder_of = embedder_of
        self._statement = Statement(client, self._names)

    def start(self, model: str) -> int:
        """Open a place for a model, and fill it."""
        if Path(model).expanduser().is_dir():  # for flows that run elsewhere
            model = str(Path(model).expanduser().resolve())
        new = self._embedder_of(model)
        name = names_of_the_model(new.name)[0]
        places = self._statement.change(lambda known: (known or self._only()).begun(name, model))
        place = next(one for one in places.places if one.model == name)
        store = self._at(place.id)
        store.ensure_collections(new.dimension)
        self._copy_tombstones(places, place)
        # From the next batch on, flows write every change for both.
        places = self._statement.change(lambda known: _known(known).created(place.id))
        say(f"every change goes to {places.searched.model} and to {name}")
        return self._fill(places, places.at(place.id), new)

    def status(self) -> int:
        """Say which models there are."""
        places = read_places(self._client, self._names)
        if places is None:
            say("no migration: the store has one model")
            return 0
        for place in sorted(places.places, key=lambda one: one.id != places.active):
            say(self._line(place, places.active))
        return 0

    def switch(self) -> int:
        """Search by the newer model."""
        return self._search(newest=True)

    def rollback(self) -> int:
        """Search by the older model."""
        return self._search(newest=False)

    def remove(self) -> int:
        """Remove the model that is not searched."""
        places = self._statement.change(lambda known: _known(known).removing())
        place = places.other
        if place is None:
            say(f"{places.searched.model} is the only model of the store")
            return 0
        # Flows write nothing more there, from the next batch on.
        self._statement.remove_collections(place.id, _TYPES)
        self._statement.change(lambda known: _known(known).removed(place.id))
        say(f"{place.model} is removed; {places.searched.model} is searched")
        return 0

    def _search(self, newest: bool) -> int:
        places = self._statement.change(lambda known: _known(known).searching(newest))
        say(f"{places.searched.model} is searched from now on")
        return 0

    def _only(self) -> Places:
        """The first statement of a store; its chunks must be of the model of the settings."""
        setting = self._settings.embedding_model
        name = names_of_the_model(self._embedder_of(setting).name)[0]
        counts = count_by_model(self._client, self._names, _TYPES)
        others = [one for one in counts if names_of_the_model(one)[0] != name]
        if not counts:
            raise ConfigurationError(
                "the store has no chunks yet: set EMBEDDING_MODEL, there is nothing to migrate"
            )
        if others:
            raise ConfigurationError(
                f"EMBEDDING_MODEL names {name}, but {counts[others[0]]:,} chunks were embedded by "
                f"{others[0]}: set EMBEDDING_MODEL to the model that is stored, or run make "
                "reconcile first"
            )
        return Places.only(name, setting)

    def _fill(self, places: Places, place: Place, new: ChunkingEmbedder) -> int:
        from flows.backfill import Backfill
        from flows.comparison import Comparison
        from flows.reconcile import compare_and_repair, is_repaired

        searched, filled = self._at(places.active), self._at(place.id)
        say(f"{Backfill(self._settings, searched, filled, place.id).run(_TYPES)} documents sent")
        self._copy_tombstones(places, place)  # those of batches that were under way
        with closing(Comparison(self._settings, _TYPES, new, place.id)) as comparison:
            for _ in range(_ROUNDS):
                report = compare_and_repair(self._settings, comparison)
                if not report.findings or is_repaired(comparison, report):
                    self._statement.change(lambda known: _known(known).filled(place.id))
                    say(f"{place.model} holds everything: compare, then switch")
                    return 0
        say(
            f"{len(report.findings)} documents still differ: call start again; if they remain, "
            "look for them among the dead letters"
        )
        return 1

    def _copy_tombstones(self, places: Places, place: Place) -> None:
        """What was deleted before is not in MongoDB, but may be in a dead letter."""
        names = self._names
        copy_tombstones(self._client, names.at(places.active), names.at(place.id))

    def _at(self, id_: str) -> QdrantStore:
        def is_removed() -> bool:
            try:
                places = read_places(self._client, self._names)
            except STORE_ERRORS:
                return False
            return places is not None and places.lacks(id_)

        return QdrantStore(self._client, _TYPES, self._names.at(id_), is_removed)

    def _line(self, place: Place, active: str) -> str:
        names = self._names.at(place.id)
        documents = sum(self._count(names.cleaned(type_)) for type_ in _TYPES)
        chunks = sum(self._count(names.vectors(type_)) for type_ in _TYPES)
        role = "searched" if place.id == active else place.state
        held = f"{documents:,} documents, {chunks:,} chunks"
        return f"{role:<9} {place.model}: {held} in {names.vectors('<type>')}"

    def _count(self, name: str) -> int:
        return self._client.count(name).count if self._client.collection_exists(name) else 0


def _known(places: Places | None) -> Places:
    if places is None:
        raise ConfigurationError("there is no migration: call start first")
    return places


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.migrate",
        description="Change the embedding model while flows run and searches go on.",
        epilog="Exit code 0: done. 1: not possible now, one line says why. 130: Ctrl-C. "
        "After a kill, call the same command again.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="one of these"
    )
    start = commands.add_parser("start", help="embed everything by a second model as well")
    start.add_argument("model", help="as EMBEDDING_MODEL: a folder or a hub id")
    for name, help_ in (
        ("status", "the models of the store, and how far each is"),
        ("switch", "search by the new model from now on"),
        ("rollback", "search by the old model again"),
        ("remove", "delete the points of the model that is not searched"),
    ):
        commands.add_parser(name, help=help_)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command("migrate", main))
