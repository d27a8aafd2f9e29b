"""`ops/install.sh` on machines that lack something, with stand-ins for what it would call."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import ROOT

TOOLS = ("cat", "chmod", "cksum", "cp", "dirname", "env", "grep", "kill", "mkdir", "mktemp", "mv",
         "rm", "sed", "sh", "touch")  # fmt: skip

SUPPORTED = """#!/bin/sh
echo "$0 $*" >>"$LOG"
case "$*" in "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;; esac
"""
NEWER = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.14.1" ;;
  *sys.exit*) exit 1 ;;
  *'print('*) echo python3.14 ;;
  *"import venv, ensurepip"*) [ -z "$WITHOUT_VENV" ] ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$BIN/pip" "$3/bin" ;;
esac
"""
PIP = """#!/bin/sh
echo "pip $*" >>"$LOG"
cp "$BIN/a-uv" "$(dirname "$0")/uv"
"""
UV = """#!/bin/sh
echo "uv $*" >>"$LOG"
[ -z "$REFUSED" ] || { echo "error: no route to the mirror" >&2; exit 2; }
folder=$UV_PYTHON_INSTALL_DIR/cpython-3.12.9-linux/bin
mkdir -p "$folder" && cp "$BIN/a-python" "$folder/python3.12"
"""
APT_GET = """#!/bin/sh
sed -n '/made by/s/ [0-9]*$//p' "$POLICY" >>"$LOG"
[ -z "$KILLED" ] || kill -9 "$(sed -n 's/^# made by.*process //p' "$POLICY")"
touch "$BIN/rabbitmq-server" && chmod +x "$BIN/rabbitmq-server"
"""


@dataclass(frozen=True)
class Machine:
    """A checkout with nothing but `ops/install.sh`, and a PATH with nothing but stand-ins."""

    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "usr" / "sbin" / "policy-rc.d"

    def put(self, name: str, script: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(script)
        file.chmod(0o755)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def install(self, *parts: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", self.folder / "checkout" / "ops" / "install.sh", *parts],
            env={
                "PATH": str(self.folder / "bin"),
                "BIN": str(self.folder / "bin"),
                "LOG": str(self.folder / "log"),
                "POLICY": str(self.policy),
                "UV_PYTHON_INSTALL_DIR": str(self.folder / "fetched"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for folder in ("bin", "usr/sbin", "checkout/ops"):
        (tmp_path / folder).mkdir(parents=True)
    script = (ROOT / "ops" / "install.sh").read_text()
    for place in ("/usr/bin/python", "/usr/lib/rabbitmq", "/usr/sbin/"):
        assert place in script
        script = script.replace(place, f"{tmp_path}{place}")
    (tmp_path / "checkout" / "ops" / "install.sh").write_text(script)
    (tmp_path / "checkout" / "pyproject.toml").write_text("")
    (tmp_path / "log").touch()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    machine.put("id", "#!/bin/sh\necho 0\n")
    return machine


def with_newer_python_only(machine: Machine) -> None:
    for name, script in {"python3": NEWER, "a-python": SUPPORTED, "pip": PIP, "a-uv": UV}.items():
        machine.put(name, script)


def test_where_every_python_is_too_new_one_is_fetched(machine: Machine) -> None:
    """Debian 13, Fedora and Homebrew have none that Bytewax has wheels for."""
    with_newer_python_only(machine)
    result = machine.install("python")
    assert result.returncode == 0, result.stderr
    told = result.stderr.splitlines()[0]
    for word in (
        "Python 3.14.1",
        "CPython",
        "3.12",
        "MB",
        "github.com",
        str(machine.folder / "fetched"),
    ):
        assert word in told
    log = machine.log()
    assert "uv python install" in log
    assert "fetched/cpython-3.12.9-linux/bin/python3.12 -m venv --clear .venv" in log
    assert ".venv/bin/python -m pip install" in log

    # Another checkout of the same user finds it, and fetches nothing.
    shutil.rmtree(machine.folder / "checkout" / ".venv")
    assert machine.install("python").returncode == 0
    assert machine.log().count("uv python install") == 1


def test_the_mirror_and_the_uv_of_this_machine_are_taken(machine: Machine) -> None:
    with_newer_python_only(machine)
    machine.put("uv", UV)
    result = machine.install("python", UV_PYTHON_INSTALL_MIRROR="https://mirror.example")
    assert result.returncode == 0, result.stderr
    assert "from https://mirror.example with uv" in result.stderr.splitlines()[0]
    assert "pip install --quiet --disable-pip-version-check uv" not in machine.log()


def test_where_no_python_can_be_fetched_one_line_says_what_to_do(machine: Machine) -> None:
    with_newer_python_only(machine)
    result = machine.install("python", REFUSED="1")
    assert result.returncode == 1
    *_, reason, told = result.stderr.splitlines()
    assert reason == "error: no route to the mirror"
    for word in ("3.10, 3.11 or 3.12", "install", "UV_PYTHON_INSTALL_MIRROR"):
        assert word in told


def test_without_any_python_one_line_says_what_to_do(machine: Machine) -> None:
    result = machine.install("python")
    assert result.returncode == 1
    [told] = result.stderr.splitlines()
    assert "install one" in told


@pytest.mark.parametrize("killed", [False, True])
def test_a_policy_that_a_killed_install_left_is_not_the_administrators(
    machine: Machine, killed: bool
) -> None:
    machine.put("apt-get", APT_GET)
    if killed:
        assert machine.install("broker", KILLED="1").returncode == -9
        assert machine.policy.exists()
        (machine.folder / "bin" / "rabbitmq-server").unlink(missing_ok=True)
    assert machine.install("broker").returncode == 0
    assert machine.log().splitlines()[-1] == "# made by ops/install.sh, process"
    assert not machine.policy.exists()


def test_a_policy_that_was_left_goes_also_when_nothing_is_to_be_installed(
    machine: Machine,
) -> None:
    machine.put("apt-get", APT_GET)
    machine.install("broker", KILLED="1")
    machine.put("rabbitmq-server", "#!/bin/sh\n")
    assert machine.install("broker").returncode == 0
    assert not machine.policy.exists()


def test_the_policy_of_an_administrator_stays(machine: Machine) -> None:
    machine.put("apt-get", APT_GET)
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    assert machine.install("broker").returncode == 0
    assert machine.policy.read_text() == "#!/bin/sh\nexit 101\n"
