"""Rules for docker-compose.yml and Dockerfile that can be checked without an engine."""

from __future__ import annotations

import ast
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = sorted(SERVICES.keys() - {"mongo-init"})
FLOWS = ["cdc", "features"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def stack_variables() -> list[str]:
    return sorted(set(re.findall(r"\$\{(STACK_\w+)", (ROOT / "docker-compose.yml").read_text())))


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    check = subprocess.run(
        [*command, ROOT / "docker-compose.yml"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    plugin = docker and subprocess.run([docker, "compose", "version"], capture_output=True)  # noqa: PLW1510
    if not docker or not plugin or plugin.returncode:
        pytest.skip("docker compose is not installed")
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}=secret\n" for name in stack_variables()))
    command = [docker, "compose", "--env-file", str(env_file), "config", "--quiet"]
    config = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert config.returncode == 0, config.stderr


def test_the_services_are_those_of_the_design() -> None:
    assert set(SERVICES) == {
        *("mongo1", "mongo2", "mongo3", "mongo-init"),
        *("rabbitmq", "qdrant", "cdc", "features"),
    }


def test_ports_are_bound_to_loopback_and_are_the_documented_ones() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert all(port.startswith("127.0.0.1:") for ports_ in ports.values() for port in ports_)
    assert {name: [port.split(":")[1] for port in of] for name, of in ports.items() if of} == {
        "mongo1": ["30001"],
        "mongo2": ["30002"],
        "mongo3": ["30003"],
        "rabbitmq": ["5673", "15673"],
        "qdrant": ["6333", "6334"],
    }


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_restarts_reports_its_health_and_limits_its_log(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "always"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["logging"]["options"]["max-size"]
    assert service["stop_grace_period"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_pinned(name: str) -> None:
    tag = r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?"
    assert re.fullmatch(rf"{tag}|\$\{{[A-Z]+_IMAGE:-{tag}\}}", SERVICES[name]["image"])


def test_two_services_that_build_one_tag_do_not_end_in_already_exists() -> None:
    tags = [service["image"] for service in SERVICES.values() if "build" in service]
    assert len(tags) == len(set(tags))
    users = [service for service in SERVICES.values() if service["image"] in tags]
    assert len(users) > len(tags)
    # nor is the tag looked for at a registry, where it could be anybody's
    assert {user["pull_policy"] for user in users} == {"never"}


@pytest.mark.parametrize("name", ["rabbitmq", "qdrant", "mongo1", "mongo2", "mongo3"])
@pytest.mark.parametrize(
    ("hard", "expected"), [("1024", "1024"), ("4096", "4096"), ("most", "most")]
)
def test_an_engine_with_few_open_files_does_not_abort_the_start(
    name: str, hard: str, expected: str
) -> None:
    """`ulimits` asks for more than such an engine may give; the container takes what there is."""
    assert "ulimits" not in SERVICES[name]
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] % 2**63, 65536)
    entrypoint = [word.replace("$$", "$") for word in SERVICES[name]["entrypoint"]]
    lowered = f'ulimit -S -n 1024; {"" if hard == "most" else f"ulimit -H -n {hard};"} exec "$@"'
    shown = [*entrypoint, "bash", "-c", 'echo "$(ulimit -S -n) $0 $*"', "with", "its", "arguments"]
    done = subprocess.run(
        ["bash", "-c", lowered, "engine", *shown], capture_output=True, text=True, check=True
    )
    limit = str(most) if expected == "most" else expected
    assert done.stdout.split() == [limit, "with", "its", "arguments"]


def test_every_variable_of_the_file_stands_in_the_example() -> None:
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    example = (ROOT / ".env.example").read_text()
    assert used - set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == set()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mongo1", "/data/db"),
        ("mongo2", "/data/db"),
        ("mongo3", "/data/db"),
        ("rabbitmq", "/var/lib/rabbitmq"),
        ("qdrant", "/qdrant/storage"),
    ],
)
def test_data_is_kept_in_a_volume_of_its_own(name: str, folder: str) -> None:
    assert f"{name}:{folder}" in SERVICES[name]["volumes"]
    assert name in COMPOSE["volumes"]


def test_what_is_mounted_from_the_project_exists() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    local = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert local
    assert [path for path in local if not (ROOT / path).is_file()] == []


def test_flows_wait_for_what_they_need() -> None:
    healthy = {"condition": "service_healthy"}
    done = {"condition": "service_completed_successfully"}
    assert SERVICES["mongo-init"]["depends_on"] == dict.fromkeys(
        ["mongo1", "mongo2", "mongo3"], healthy
    )
    assert SERVICES["cdc"]["depends_on"] == {"mongo-init": done, "rabbitmq": healthy}
    assert SERVICES["features"]["depends_on"] == {"rabbitmq": healthy, "qdrant": healthy}


def test_the_replica_set_is_the_same_everywhere() -> None:
    initiate = (ROOT / "ops/mongodb/initiate.js").read_text()
    members = re.findall(r'host: "(mongo\d:\d+)"', initiate)
    assert members == [
        f"{name}:{SERVICES[name]['environment']['MEMBER_PORT']}"
        for name in ("mongo1", "mongo2", "mongo3")
    ]
    uri = SERVICES["cdc"]["environment"]["MONGO_DATABASE_HOST"]
    assert f"@{','.join(members)}/?replicaSet=twin&" in uri
    assert "--replSet twin " in (ROOT / "ops/mongodb/member.sh").read_text()


def test_the_broker_keeps_its_name() -> None:
    assert SERVICES["rabbitmq"]["hostname"] == "rabbitmq"


def test_secrets_come_from_the_environment() -> None:
    secret = re.compile(r"PASS|PASSWORD|KEY|USER(NAME)?$")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                assert re.fullmatch(r"\$\{STACK_\w+:\?set STACK_\w+ in \.env\}", value), (
                    f"{name}: {variable} must be ${{STACK_...:?...}}"
                )


def test_every_variable_of_the_stack_stands_empty_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    assert stack_variables() == sorted(re.findall(r"^(STACK_\w+)=$", example, re.MULTILINE))


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_runs_the_documented_command_with_least_privilege(name: str) -> None:
    service = SERVICES[name]
    assert service["command"] == ["python", "-m", "bytewax.run", f"flows.{name}"]
    assert service["environment"]["BYTEWAX_SNAPSHOT_INTERVAL"] == "1"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert {SERVICES[flow]["image"] for flow in FLOWS} == {service["image"]}


def test_the_image_runs_as_nobody_in_particular_and_is_offline() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (.+)$", final, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "ARG PYTHON_IMAGE=python:3.12-slim-bookworm\n" in DOCKERFILE
    assert DOCKERFILE.count("\nFROM ${PYTHON_IMAGE}") == 2
    assert "HF_HUB_OFFLINE=1" in final
    assert "pip install" not in final, "the compiler's leftovers stay in the first stage"


def test_the_image_holds_every_package_that_a_flow_imports() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line[:1] == "!"
    }
    assert imported_packages({f"flows.{name}" for name in FLOWS}) <= copied
    # ... and the commands that are run in its containers
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert copied == packages - {"benchmarks", "examples", "ops", "tests"}
    assert copied | {"ops/image/*.lock"} == allowed


def imported_packages(modules: set[str]) -> set[str]:
    """The packages of this repository from which these modules import, directly or not."""
    seen: set[str] = set()
    while modules:
        name = modules.pop()
        path = ROOT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not file.is_file():
            continue
        seen.add(name)
        parts = name.split(".")
        modules |= {".".join(parts[:length]) for length in range(1, len(parts))}
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.partition(".")[0] for name in seen}


@pytest.mark.parametrize("name", ["requirements", "torch"])
def test_the_image_installs_no_file_that_is_not_known_by_its_hash(name: str) -> None:
    packages = locked(name)
    assert packages
    unknown = [package for package, text in packages.items() if "--hash=sha256:" not in text]
    assert unknown == []
    assert f"pip install --no-deps --require-hashes -r {name}.lock" in DOCKERFILE


def test_the_locks_of_the_image_follow_the_dependencies_of_the_project() -> None:
    """Else the image would run what the tests have not seen."""
    versions = {
        canonicalize_name(package): text.partition("==")[2].split()[0]
        for name in ("requirements", "torch")
        for package, text in locked(name).items()
    }
    project = re.search(r"^dependencies = \[$(.*?)^\]$", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert project
    for text in re.findall(r'^ +"([^"]+)"', project[1], re.MULTILINE):
        needed = Requirement(text)
        version = versions.get(canonicalize_name(needed.name), "")
        stale = f"ops/image has {version or 'no'} {needed.name}: run python -m ops.image_lock"
        assert version, stale
        assert needed.specifier.contains(version, prereleases=True), stale


def locked(name: str) -> dict[str, str]:
    """The packages of a lock file of the image, with all that it says of each."""
    text = (ROOT / f"ops/image/{name}.lock").read_text()
    packages = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    return {package.partition("==")[0]: package for package in packages}
