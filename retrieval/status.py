"""The state of all systems: `python -m retrieval.status` asks MongoDB, RabbitMQ and Qdrant.

A system that does not answer is a line of the answer, not an error.
"""

import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from pika.exceptions import AMQPError, ChannelClosedByBroker
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from qdrant_client import QdrantClient
from qdrant_client import models as q
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.mongodb import pipeline_name, reason_of
from connectors.qdrant import (
    STORE_ERRORS,
    Unsearched,
    count_by_model,
    count_unsearched,
    one_line,
    open_reader,
    read_places,
    searched_collections,
)
from connectors.rabbitmq import RabbitMQConnection, dead_letter_queue, queue_names
from flows.command import run_command, without_options
from flows.logs import complain
from flows.settings import Settings
from models import DOCUMENT_TYPES
from models.errors import ConfigurationError, StoreUnavailableError
from models.identity import drop_fence_id
from models.shown import shown

_TIMEOUT_MS: Final = 2000
_UNKNOWN: Final = "–"
_DOCUMENTS: Final = "in Qdrant"
_CHUNKS: Final = "chunks"
_TOMBSTONES: Final = "tombstones"
# A standby notes every few seconds that it is there, the owner beats every two.
_STANDBY_BEATS: Final = 8
# After that a standby takes over.
_STILL_S: Final = 10.0

Counts = dict[str, int]


def main() -> int:
    """Print the status; 0 if every system answered, else 1."""
    try:
        settings = Settings.from_env()
    except ConfigurationError as error:
        complain(error)
        return 1
    console = Console(highlight=False)
    problems: list[str] = []
    sources, capture = _mongodb(settings, problems)
    queues = _queues(settings, problems)
    stored = _store(settings, problems)
    models = _models(settings) if stored else _UNKNOWN
    unsearched = _unsearched(settings) if stored else []
    console.print(_documents(sources, stored))
    console.print(_depths(queues))
    console.print(Text.assemble(("capture  ", "bold"), shown(capture)))
    console.print(Text.assemble(("models   ", "bold"), shown(models)), soft_wrap=True)
    for line in unsearched:
        console.print(Text.assemble(("kept out ", "bold"), line), soft_wrap=True)
    for problem in problems:
        console.print(Text(shown(problem), "red"), soft_wrap=True)
    return 1 if problems else 0


def _mongodb(settings: Settings, problems: list[str]) -> tuple[Counts, str]:
    """Documents by type, and where the capture stands."""
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            settings.mongo_uri, serverSelectionTimeoutMS=_TIMEOUT_MS, tz_aware=True
        )
        with client:
            database = client[settings.mongo_database]
            counts = {type_: database[type_].estimated_document_count() for type_ in DOCUMENT_TYPES}
            checkpoints = client[settings.mongo_checkpoint_database]["checkpoints"]
            name = pipeline_name(
                settings.mongo_database, settings.rabbitmq.virtual_host, settings.queue
            )
            checkpoint = checkpoints.find_one({"_id": name})
            hello = client.admin.command("hello", codec_options=client.codec_options)
            now: datetime = hello["localTime"]
    except PyMongoError as error:
        problems.append(f"MongoDB cannot be read: {reason_of(error)}")
        return {}, _UNKNOWN
    return counts, _position(checkpoint, now)


def _position(checkpoint: Mapping[str, Any] | None, now: datetime) -> str:
    if checkpoint is None:
        return "no checkpoint yet: the first run of flows.cdc begins with a snapshot"
    if "phase" not in checkpoint:
        return f"about to begin; {_owner(checkpoint, now)}"
    age = datetime.now(timezone.utc) - checkpoint["updated_at"]
    phase = checkpoint["phase"]
    if phase == "snapshot" and checkpoint.get("collection"):
        phase = f"snapshot of {checkpoint['collection']}"
    # A flow with nothing to do stores its position every ten seconds.
    stored = f"checkpoint stored {max(0.0, age.total_seconds()):,.0f} s ago"
    return f"{phase}, {stored}; {_owner(checkpoint, now)}"


def _owner(checkpoint: Mapping[str, Any], now: datetime) -> str:
    """Who captures, and who stands by.

    :param now: by the clock of the server, which has also dated the beats
    """
    owner, standby = checkpoint.get("owner"), checkpoint.get("standby")
    if owner is None:
        return "no cdc runs"
    said = f"owned by process {owner['pid']} on {owner['host']}"
    still = (now - checkpoint.get("beat_at", now)).total_seconds()
    if still > _STILL_S:
        return f"{said}, which has shown no sign of life for {still:,.0f} s"
    if standby is None or checkpoint["beat"] - standby["beat"] > _STANDBY_BEATS:
        return said
    return f"{said}, standby process {standby['pid']} on {standby['host']}"


def _queues(settings: Settings, problems: list[str]) -> dict[str, str]:
    """Messages that wait in each queue; a queue that nobody has declared yet says so."""
    names = [*queue_names(settings.queue, settings.partitions), dead_letter_queue(settings.queue)]
    depths: dict[str, str] = {}
    try:
        with RabbitMQConnection(settings=settings.rabbitmq) as connection:
            for name in names:
                # The broker closes the channel on a queue that is not there.
                channel = connection.get_channel()
                try:
                    declared = channel.queue_declare(name, passive=True).method
                except ChannelClosedByBroker:
                    depths[name] = "not declared yet"
                else:
                    consumers = declared.consumer_count
                    readers = "" if name == names[-1] else f", {consumers} consuming"
                    depths[name] = f"{declared.message_count:,} waiting{readers}"
    except ConnectionError as error:
        problems.append(str(error))
        return dict.fromkeys(names, _UNKNOWN)
    except (AMQPError, OSError) as error:
        problems.append(f"RabbitMQ cannot be read: {one_line(error)}")
        return dict.fromkeys(names, _UNKNOWN)
    return depths


def _store(settings: Settings, problems: list[str]) -> dict[str, Counts]:
    """Documents, chunks and tombstones by type."""
    try:
        with open_reader(settings.qdrant) as client:
            names = searched_collections(client, settings.qdrant.collections)
            return {
                _DOCUMENTS: {
                    type_: _count(client, names.cleaned(type_)) for type_ in DOCUMENT_TYPES
                },
                _CHUNKS: {type_: _count(client, names.vectors(type_)) for type_ in DOCUMENT_TYPES},
                _TOMBSTONES: {
                    type_: _count_tombstones(client, names.tombstones, type_)
                    for type_ in DOCUMENT_TYPES
                },
            }
    except (ConfigurationError, StoreUnavailableError) as error:
        problems.append(f"Qdrant: {error}")
    except (*STORE_ERRORS, OSError, ValueError) as error:
        problems.append(f"Qdrant cannot be read: {one_line(error)}")
    return {}


def _count(client: QdrantClient, collection: str) -> int:
    return client.count(collection).count if client.collection_exists(collection) else 0


def _count_tombstones(client: QdrantClient, collection: str, type_: str) -> int:
    """Deleted documents; the fence of a whole collection is nobody's."""
    if not client.collection_exists(collection):
        return 0
    of_type = q.Filter(must=[q.FieldCondition(key="type", match=q.MatchValue(value=type_))])
    fences = client.retrieve(collection, [drop_fence_id(type_)], with_payload=False)
    return client.count(collection, of_type).count - len(fences)


def _models(settings: Settings) -> str:
    """How many chunks each model has embedded; a search finds those of its own model only."""
    try:
        with open_reader(settings.qdrant) as client:
            names = settings.qdrant.collections
            places = read_places(client, names)
            searched = names.at(places.active) if places else names
            counts = count_by_model(client, searched, DOCUMENT_TYPES)
    except (ConfigurationError, StoreUnavailableError, *STORE_ERRORS, OSError, ValueError):
        return _UNKNOWN
    said = ", ".join(f"{model} {count:,}" for model, count in sorted(counts.items())) or _UNKNOWN
    if places is None or places.other is None:
        return said
    return f"{said}; beside it {places.other.model}, {places.other.state}"


def _unsearched(settings: Settings) -> list[str]:
    """A line for each kind of text that is stored and that searches do not find."""
    try:
        with open_reader(settings.qdrant) as client:
            searched = searched_collections(client, settings.qdrant.collections)
            found = count_unsearched(client, searched, DOCUMENT_TYPES)
    except (ConfigurationError, StoreUnavailableError, *STORE_ERRORS, OSError, ValueError):
        return []
    return describe(found, settings.max_chunks)


def describe(found: Unsearched, most: int) -> list[str]:
    """The counts that are not 0, a line for each.

    :param most: chunks of a document
    """
    lines = {
        f"{found.machine_files:,} files for machines": found.machine_files,
        f"{found.chunks_left_out:,} chunks of {found.cut_documents:,} documents beyond "
        f"MAX_CHUNKS_PER_DOCUMENT, now {most:,}": found.chunks_left_out,
        f"{found.without_sparse:,} chunks from searches by words: without a word, or of an earlier "
        "version (make reconcile)": found.without_sparse,
    }
    return [line for line, count in lines.items() if count]


def _documents(sources: Counts, stored: Mapping[str, Counts]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("type")
    columns = {"documents in MongoDB": sources}
    columns |= {what: stored.get(what, {}) for what in (_DOCUMENTS, _CHUNKS, _TOMBSTONES)}
    for heading in columns:
        table.add_column(heading, justify="right")
    for type_ in DOCUMENT_TYPES:
        counts = (column.get(type_) for column in columns.values())
        table.add_row(type_, *(_UNKNOWN if count is None else f"{count:,}" for count in counts))
    return table


def _depths(queues: Mapping[str, str]) -> Text:
    width = max(map(len, queues))
    lines = (shown(f"{name:<{width}}  {depth}") for name, depth in queues.items())
    return Text("\n".join(lines) + "\n")


if __name__ == "__main__":
    without_options(
        "retrieval.status",
        "Count the documents in MongoDB, the documents and chunks in Qdrant and the waiting "
        "messages, and say how far the capture is.",
        "Exit code 0: every system answered. 1: one did not, or a setting is wrong.",
    )
    sys.exit(run_command("status", main))
