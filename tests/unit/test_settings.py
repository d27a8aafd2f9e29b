"""A wrong setting is answered with one line, without its secrets and without the network."""

import logging
import socket
from pathlib import Path

import pytest

from flows.settings import Settings
from models.errors import ConfigurationError


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mongodb+srv://", "hostname"),
        ("mongodb+srv://cluster.example.net:27017", "without a port"),
        ("mongodb+srv://127.0.0.1", "DNS name"),
        ("mongodb+srv://a.example.net,b.example.net", "one DNS name"),
        ("mongodb+srv://user:pass@word@cluster.example.net", "percent-encoded"),
        ("mongodb+srv://cluster.example.net/?directConnection=true", "directConnection"),
        ("mongodb+srv://cluster.example.net/?nosuchoption=1", "nosuchoption"),
        ("mongodb+srv://cluster.example.net/?tlsCAFile=/no/such.pem", "/no/such.pem"),
        ("mongodb://user:12/secret@host/db", "percent-encoded"),
        ("mongodb://user:secret@host/?tls=true&tlsCAFile=/no/such.pem", "/no/such.pem"),
        (f"mongodb://host/?tls=true&tlsCAFile={__file__}", "certificate"),
        (f"mongodb://host/?tls=true&tlsCertificateKeyFile={__file__}", "certificate"),
    ],
)
def test_a_malformed_uri_or_a_missing_certificate_is_one_line(
    uri: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the settings ask the network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"MONGO_DATABASE_HOST": uri})
    line = str(refused.value)
    assert line.startswith("MONGO_DATABASE_HOST")
    assert reason in line
    assert "\n" not in line
    assert "secret" not in line
    assert "pass@word" not in line


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb+srv://user:secret@cluster.example.net/db?retryWrites=true",
        "mongodb+srv://cluster.example.net/?srvServiceName=mongo&srvMaxHosts=2",
        "mongodb://a:1,b:2/?replicaSet=rs&tls=true",
        "mongodb://[::1]:27017",
    ],
)
def test_a_uri_is_accepted_without_asking_for_its_dns_records(uri: str) -> None:
    assert Settings.from_env({"MONGO_DATABASE_HOST": uri}).mongo_uri == uri


@pytest.mark.parametrize(
    ("mode", "line", "warned"),
    [
        (0o644, "QDRANT_API_KEY=secret", True),
        (0o640, "MONGO_DATABASE_HOST=mongodb://user:secret@host", True),
        (0o600, "QDRANT_API_KEY=secret", False),
        (0o644, "RABBITMQ_DEFAULT_PASSWORD=guest\nQDRANT_API_KEY=", False),
    ],
)
def test_an_env_file_that_others_can_read_is_told_in_one_line(
    mode: int,
    line: str,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("QDRANT_API_KEY", "MONGO_DATABASE_HOST", "RABBITMQ_DEFAULT_PASSWORD"):
        monkeypatch.setenv(name, "")  # undone at the end, as is what .env puts there
        monkeypatch.delenv(name)
    file = Path(".env")
    file.write_text(f"{line}\n")
    file.chmod(mode)
    with caplog.at_level(logging.WARNING):
        Settings.from_env()
    told = [record.getMessage() for record in caplog.records]
    assert told == ([".env holds secrets that every user here can read: chmod 600 .env"] * warned)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RABBITMQ_PORT", "many"),
        ("RABBITMQ_TLS", "perhaps"),
        ("RABBITMQ_CA_FILE", "/no/such.pem"),
        ("RABBITMQ_QUEUE_NAME", "amq.queue"),
        ("QDRANT_URL", "localhost:6333"),
        ("QDRANT_COLLECTION_PREFIX", "a/b"),
        ("EMBEDDING_MODEL", "/no/such/model"),
        ("EMBEDDING_PRECISION", "float8"),
        ("CDC_SNAPSHOT", "sometimes"),
        ("TOMBSTONE_RETENTION_DAYS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("MONGO_CHECKPOINT_DATABASE", "twin"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_with_what_to_do(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({name: value})
    line = str(refused.value)
    assert line.startswith(f"{name}={value} ")
    problem, _, fix = line.partition(": ")
    assert problem
    assert fix.split()[0] in ("set", "write", "name", "take")
    assert "\n" not in line


def test_an_env_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(b"QDRANT_API_KEY=\xff\n")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        Settings.from_env()


def test_no_secret_is_in_the_repr_of_the_settings() -> None:
    """Which a traceback, or a line of a debugger's log, may show."""
    settings = Settings.from_env(
        {
            "MONGO_DATABASE_HOST": "mongodb://user:s3cret@host",
            "RABBITMQ_DEFAULT_PASSWORD": "s3cret",
            "QDRANT_URL": "http://host:6333",
            "QDRANT_API_KEY": "s3cret",
        }
    )
    assert "s3cret" in settings.mongo_uri
    assert "s3cret" not in repr(settings)
