"""The only reader of the environment."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, load_dotenv
from pymongo import MongoClient
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from connectors.qdrant import Owner, QdrantSettings
from connectors.rabbitmq import RabbitMQSettings
from flows.embedding.embedder import locate_model
from flows.embedding.precision import PRECISIONS
from flows.embedding.reranker import locate_reranker
from flows.logs import configure_logging
from flows.operators.prepare import MAX_CHUNKS
from models.errors import ConfigurationError

VARIABLES = (
    "MONGO_DATABASE_HOST",
    "MONGO_DATABASE_NAME",
    "MONGO_CHECKPOINT_DATABASE",
    "RABBITMQ_HOST",
    "RABBITMQ_PORT",
    "RABBITMQ_DEFAULT_USERNAME",
    "RABBITMQ_DEFAULT_PASSWORD",
    "RABBITMQ_VIRTUAL_HOST",
    "RABBITMQ_TLS",
    "RABBITMQ_CA_FILE",
    "RABBITMQ_QUEUE_NAME",
    "RABBITMQ_PARTITIONS",
    "RABBITMQ_PREFETCH",
    "QDRANT_URL",
    "QDRANT_PATH",
    "QDRANT_API_KEY",
    "QDRANT_GRPC_PORT",
    "QDRANT_CA_FILE",
    "QDRANT_COLLECTION_PREFIX",
    "EMBEDDING_MODEL",
    "EMBEDDING_DEVICE",
    "EMBEDDING_PRECISION",
    "RERANKER_MODEL",
    "MAX_CHUNKS_PER_DOCUMENT",
    "CDC_SNAPSHOT",
    "CDC_ON_LOST_HISTORY",
    "CDC_PROPAGATE_DROPS",
    "COLLECT_SOURCES",
    "TOMBSTONE_RETENTION_DAYS",
    "RECONCILE_REPAIR",
    "LOG_LEVEL",
)
"""Every variable that is read; each stands in `.env.example`."""

log = logging.getLogger("flows")

_ENV_FILE = Path(".env")
_MONGO_URI = "MONGO_DATABASE_HOST"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked; see `.env.example` for what each means."""

    mongo_uri: str = field(repr=False)
    mongo_database: str
    mongo_checkpoint_database: str
    rabbitmq: RabbitMQSettings
    queue: str
    partitions: int
    prefetch: int
    qdrant: QdrantSettings
    embedding_model: str
    embedding_device: str
    embedding_precision: str
    reranker_model: str
    max_chunks: int
    cdc_snapshot: str
    cdc_on_lost_history: str
    cdc_propagate_drops: bool
    collect_sources: Path
    tombstone_retention_days: float
    reconcile_repair: bool
    log_level: str

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read and check the environment, and `.env` below it.

        :param environment: instead of the process's own, without `.env`
        :raises ConfigurationError: one line that names variable, value and fix
        """
        if environment is None:
            try:
                load_dotenv(_ENV_FILE)
                _warn_of_open_secrets(_ENV_FILE)
            except (OSError, UnicodeError) as error:
                raise ConfigurationError(f"{_ENV_FILE} cannot be read: {error}") from error
            environment = os.environ
        read = _Reader(environment)
        settings = cls(
            mongo_uri=read.mongo_uri(_MONGO_URI, "mongodb://127.0.0.1:27017"),
            mongo_database=read.text("MONGO_DATABASE_NAME", "twin"),
            mongo_checkpoint_database=read.text("MONGO_CHECKPOINT_DATABASE", "twin_cdc"),
            rabbitmq=RabbitMQSettings(
                host=read.text("RABBITMQ_HOST", "127.0.0.1"),
                port=read.integer("RABBITMQ_PORT", 5672, 1, 65535),
                username=read.text("RABBITMQ_DEFAULT_USERNAME", "guest"),
                password=read.text("RABBITMQ_DEFAULT_PASSWORD", "guest"),
                virtual_host=read.text("RABBITMQ_VIRTUAL_HOST", "/"),
                tls=read.boolean("RABBITMQ_TLS", False),
                ca_file=read.file("RABBITMQ_CA_FILE"),
            ),
            queue=read.queue("RABBITMQ_QUEUE_NAME", "default"),
            partitions=read.integer("RABBITMQ_PARTITIONS", 1, 1, 1024),
            prefetch=read.integer("RABBITMQ_PREFETCH", 1000, 1, 65535),
            qdrant=QdrantSettings(
                url=read.url("QDRANT_URL"),
                path=Path(read.text("QDRANT_PATH", ".data/qdrant")),
                api_key=read.text("QDRANT_API_KEY", ""),
                grpc_port=read.integer("QDRANT_GRPC_PORT", 6334, 1, 65535),
                ca_file=read.file("QDRANT_CA_FILE"),
                prefix=read.prefix("QDRANT_COLLECTION_PREFIX"),
            ),
            embedding_model=read.model("EMBEDDING_MODEL"),
            embedding_device=read.text("EMBEDDING_DEVICE", "auto"),
            embedding_precision=read.choice("EMBEDDING_PRECISION", "auto", ("auto", *PRECISIONS)),
            reranker_model=read.reranker("RERANKER_MODEL"),
            max_chunks=read.integer("MAX_CHUNKS_PER_DOCUMENT", MAX_CHUNKS, 1, 1_000_000),
            cdc_snapshot=read.choice("CDC_SNAPSHOT", "initial", ("initial", "never", "always")),
            cdc_on_lost_history=read.choice(
                "CDC_ON_LOST_HISTORY", "resnapshot", ("resnapshot", "fail")
            ),
            cdc_propagate_drops=read.boolean("CDC_PROPAGATE_DROPS", True),
            collect_sources=Path(read.text("COLLECT_SOURCES", "sources.toml")),
            tombstone_retention_days=read.number("TOMBSTONE_RETENTION_DAYS", 7.0),
            reconcile_repair=read.boolean("RECONCILE_REPAIR", True),
            log_level=read.choice(
                "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"), str.upper
            ),
        )
        if settings.mongo_database == settings.mongo_checkpoint_database:
            raise ConfigurationError(
                f"MONGO_CHECKPOINT_DATABASE={settings.mongo_database} is the watched database "
                "itself: name another one"
            )
        return settings

    @property
    def owner(self) -> Owner:
        """The pipeline, as the store remembers it."""
        return Owner(self.mongo_database, self.rabbitmq.virtual_host, self.queue)

    def configure_logging(self) -> None:
        """Log to standard error, one line for each record."""
        configure_logging(self.log_level)


def secrets() -> Mapping[str, str]:
    """The environment, for the variables that `sources.toml` names in it."""
    return os.environ


def _warn_of_open_secrets(file: Path) -> None:
    """Say in one line that others of this machine can read the secrets in a file."""
    if not file.is_file() or not file.stat().st_mode & 0o044:
        return
    values = {name: value for name, value in dotenv_values(file).items() if value}
    secrets = [name for name in values if name.endswith(("_PASSWORD", "_KEY"))]
    if any(values[name] != "guest" for name in secrets) or "@" in values.get(_MONGO_URI, ""):
        log.warning("%s holds secrets that every user here can read: chmod 600 %s", file, file)


def _check_mongo_uri(uri: str) -> None:
    """Raise what the driver would raise about a URI, without asking the network for anything."""
    srv = uri.startswith("mongodb+srv://")
    if srv:  # which the driver does not parse without its DNS records
        location, _, options = uri.partition("?")
        kept = "&".join(one for one in options.split("&") if not one.lower().startswith("srv"))
        uri = f"mongodb://{location.removeprefix('mongodb+srv://')}?{kept}".removesuffix("?")
    parsed = parse_uri(uri, default_port=None)
    host, port = parsed["nodelist"][0]
    if srv and (len(parsed["nodelist"]) > 1 or port is not None or _is_address(host)):
        raise InvalidURI("mongodb+srv takes one DNS name, without a port")
    if srv and parsed["options"].get("directConnection"):
        raise InvalidURI("mongodb+srv names a whole cluster: directConnection is not for it")
    MongoClient[Any](uri, connect=False).close()


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name, "").strip() or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ConfigurationError(
                f"{name}={value} is not a whole number from {low} to {high}: set one, or unset "
                f"it for {default}"
            )
        return number

    def number(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise ConfigurationError(
                f"{name}={value} is not a positive number: set one, or unset it for {default:g}"
            )
        return number

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ConfigurationError(f"{name}={value} is neither true nor false: set one of them")
        return value in ("true", "1", "yes", "on")

    def choice(
        self,
        name: str,
        default: str,
        choices: tuple[str, ...],
        fold: Callable[[str], str] = str.lower,
    ) -> str:
        value = self.text(name, default)
        if fold(value) not in choices:
            raise ConfigurationError(f"{name}={value} is unknown: set one of {', '.join(choices)}")
        return fold(value)

    def mongo_uri(self, name: str, default: str) -> str:
        # The value may hold a password and is not shown.
        value = self.text(name, default)
        try:
            _check_mongo_uri(value)
        except OSError as error:
            file = f" {error.filename}" if error.filename else ""
            raise ConfigurationError(
                f"{name}: the certificate or key file{file} of its TLS options cannot be used: "
                f"{error.strerror or error}"
            ) from error
        except (PyMongoError, ValueError) as error:
            detail = str(error) if "@" not in value else type(error).__name__
            raise ConfigurationError(
                f"{name} is not a MongoDB URI ({detail}): write mongodb://host:port, or "
                "mongodb+srv://host without a port, with user and password percent-encoded"
            ) from error
        return value

    def url(self, name: str) -> str:
        value = self.text(name, "")
        if value and not value.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{name}={value} is not a URL: write http://host:6333, or leave it empty for the "
                "embedded store"
            )
        return value

    def file(self, name: str) -> str:
        value = self.text(name, "")
        if value and not Path(value).is_file():
            raise ConfigurationError(f"{name}={value} is not a file: name a PEM file, or unset it")
        return value

    def prefix(self, name: str) -> str:
        value = self.text(name, "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", value):
            raise ConfigurationError(
                f"{name}={value:.80} cannot begin the name of a collection: take at most 64 "
                "letters, digits, _ and -"
            )
        return value

    def queue(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if value.startswith("amq.") or len(value.encode()) > 240:
            raise ConfigurationError(
                f"{name}={value:.40} cannot name a queue: take at most 240 bytes, not "
                "beginning with amq."
            )
        return value

    def model(self, name: str) -> str:
        value = self.text(name, "")
        try:
            locate_model(value)
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{name}={value} names no model: set the folder of a "
                "sentence-transformers model or its hub id, or unset it for the packaged one"
            ) from error
        return value

    def reranker(self, name: str) -> str:
        value = self.text(name, "")
        if value:
            try:
                locate_reranker(value)
            except FileNotFoundError as error:
                raise ConfigurationError(
                    f"{name}={value}: {error}: set the folder of a sentence-transformers "
                    "CrossEncoder, or unset it to search without one"
                ) from error
        return value
