"""`ops/secrets.sh`, by which `make local-start` works on a fresh clone."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.processes import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
NAMES = sorted(set(re.findall(r"\$\{(STACK_\w+):\?", COMPOSE)))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "ops").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "ops" / "secrets.sh", tmp_path / "ops")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    docker(tmp_path, "")
    return tmp_path


def docker(checkout: Path, volumes: str) -> None:
    file = checkout / "bin" / "docker"
    file.write_text(f"#!/bin/sh\nprintf '%s' '{volumes}'\n")
    file.chmod(0o755)


def make_secrets(checkout: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", checkout / "ops" / "secrets.sh"],
        env={"PATH": f"{checkout}/bin:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_fresh_clone_gets_what_compose_requires(checkout: Path) -> None:
    """It ended with "set STACK_MONGO_KEY in .env"."""
    result = make_secrets(checkout)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == 1
    file = checkout / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = dotenv_values(file)
    assert sorted(made) == NAMES
    assert all(re.fullmatch(r"[a-z0-9]{10,}", value or "") for value in made.values())
    secrets = [value for name, value in made.items() if not name.endswith("_USERNAME")]
    assert len({*secrets}) == len(secrets)
    assert all(name in result.stderr for name in NAMES)
    assert not any(value in result.stderr for value in secrets if value)


def test_nothing_that_is_there_is_changed(checkout: Path) -> None:
    file = checkout / ".env"
    before = "# mine\nSTACK_MONGO_PASSWORD=chosen\nSTACK_MONGO_KEY=\nOTHER=$x 'y'"
    file.write_text(before)
    file.chmod(0o644)
    assert make_secrets(checkout, STACK_QDRANT_API_KEY="given").returncode == 0
    text = file.read_text()
    assert text.startswith(f"{before}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = dotenv_values(file, interpolate=False)
    assert made["STACK_MONGO_PASSWORD"] == "chosen"
    assert made["STACK_MONGO_KEY"]
    assert made["OTHER"] == "$x 'y'"
    assert "STACK_QDRANT_API_KEY" not in made

    again = make_secrets(checkout, STACK_QDRANT_API_KEY="given")
    assert (again.returncode, again.stderr, file.read_text()) == (0, "", text)


def test_new_secrets_are_not_made_for_servers_that_have_others(checkout: Path) -> None:
    """They would refuse them after two minutes of waiting."""
    docker(checkout, "twinstream_mongo1")
    result = make_secrets(checkout)
    assert result.returncode == 1
    assert "docker compose down --volumes" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (checkout / ".env").exists()


def test_a_complete_env_file_that_others_can_read_is_told(checkout: Path) -> None:
    make_secrets(checkout)
    (checkout / ".env").chmod(0o644)
    result = make_secrets(checkout)
    assert result.returncode == 0
    assert "chmod 600 .env" in result.stderr


def test_a_start_that_mongo_init_has_ended_shows_its_reason(checkout: Path) -> None:
    """Compose says only that it "didn't complete successfully"."""
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "bin" / "docker").write_text(
        """#!/bin/sh
case "$*" in
  "compose up --detach --build --wait") exit 1 ;;
  "compose logs --tail 1 mongo-init") echo "mongo-init-1 | the credentials are not those" ;;
esac
"""
    )
    started = subprocess.run(
        ["make", "local-start"],
        cwd=checkout,
        env={"PATH": f"{checkout}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert started.returncode != 0
    assert "mongo-init-1 | the credentials are not those" in started.stderr
