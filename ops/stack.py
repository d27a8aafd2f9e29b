"""Private local servers: a RabbitMQ node and a MongoDB-compatible server, each in its own folder.

Tests, the demo, the benchmarks and `make dev` run against real servers without administrator
rights and without touching any service of the machine: everything (data, log, cookie, ports)
belongs to one data directory, listens on loopback only, and ends with the program that started
it, whatever kills that.

    with RabbitMQNode(Path("data/broker")) as broker, MongoServer(Path("data/mongo")) as mongo:
        ...  # broker.port, mongo.uri

One server in the foreground, as the Procfile does:

    python -m ops.stack rabbitmq --data .data/rabbitmq --port 5672
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, ClassVar

import pika
import pymongo
from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
STOP_TIMEOUT = 30.0
POLL_INTERVAL = 0.05

# Reads process group ids until the pipe closes, which happens when the program that holds its other
# end is gone, even after kill -9; then ends those groups. PR_SET_PDEATHSIG would not do: it fires
# when the *thread* that started the server ends, and a test may restart a server from a thread.
GUARD = 'while read -r id; do groups="$groups -$id"; done; kill -s KILL -- $groups 2>/dev/null'


class StackError(RuntimeError):
    """A local server cannot be started; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a RabbitMQ node listens, and who may connect."""

    host: str
    port: int
    username: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default, for loopback only
    virtual_host: str = "/"


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    # Not bind(0): that returns an ephemeral port, and while a killed server is down, a client that
    # tries to reconnect can be given this very port as its own source port: it then talks to
    # itself, and the server cannot bind its port any more. Ephemeral ports are 32768 and above.
    for _ in range(1000):
        port = random.randint(15_000, 32_000)
        if _is_free(port):
            return port
    raise StackError("no free TCP port between 15000 and 32000 on 127.0.0.1; stop some servers")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class LocalServer:
    """One server process and its data directory; start, stop, kill and restart it at will.

    Input is the data directory (created when missing, kept when stopped) and a port; without one
    it is the port that this directory used last, else a free one. `start` and `restart` raise
    `StackError` when the server is not installed, its directory or port is in use, or it does not
    come up in time. Not thread-safe.
    """

    name: ClassVar[str]

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = port or self._last_port() or free_port()
        self.log = self.data_dir / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._companions: list[subprocess.Popen[bytes]] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def start(self, timeout: float = 90) -> None:
        """Start the server and return once a client is served; no-op when it already runs."""
        if self.running:
            return
        self._forget()
        deadline = time.monotonic() + timeout
        try:
            self._take_directory()
            if not _is_free(self.port):
                raise StackError(
                    f"port {self.port} is in use: end what listens there, "
                    f"or choose another one for {self.name}"
                )
            (self.data_dir / "port").write_text(str(self.port))
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, start_new_session=True
            )
            self.process = self._launch()
            self._await_ready(deadline, timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in order (SIGTERM), after 30 seconds by force; no-op when it is down."""
        if self.process is not None and self.running:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT)
        self._forget()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; its data stays for the next `start`."""
        self._forget()

    def restart(self, timeout: float = 90) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        self.stop()
        self.start(timeout)

    def _launch(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _serves(self) -> bool:
        raise NotImplementedError

    def _spawn(
        self, command: Sequence[str | Path], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        assert self._guard is not None
        assert self._guard.stdin is not None
        assert self._lock is not None
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.data_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # The server holds the lock too: the directory is taken while either lives.
                pass_fds=[self._lock.fileno()],
            )
        self._guard.stdin.write(f"{process.pid}\n".encode())
        self._guard.stdin.flush()
        return process

    def _await_ready(self, deadline: float, timeout: float) -> None:
        while not (_accepts(self.port) and self._serves()):
            if not self.running:
                raise StackError(f"{self.name} ended while starting; {self._last_words()}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} was not up after {timeout:.0f} s; {self._last_words()}"
                )
            time.sleep(POLL_INTERVAL)

    def _forget(self) -> None:
        """End whatever still runs by force, and release the directory."""
        for process in [self.process, *self._companions, self._guard]:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
        if self._lock is not None:
            self._lock.close()
        self.process = self._guard = self._lock = None
        self._companions = []

    def _take_directory(self) -> None:
        self._lock = (self.data_dir / "lock").open("w")
        # A server whose program was killed a moment ago may need that moment to go.
        for _ in range(40):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(POLL_INTERVAL)
        raise StackError(
            f"{self.data_dir} is in use by another {self.name}: "
            "stop that, or choose another directory"
        )

    def _last_port(self) -> int | None:
        try:
            return int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return None

    def _last_words(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"see {self.log}: {' | '.join(lines[-3:])}"


class RabbitMQNode(LocalServer):
    """A RabbitMQ node of our own: guest/guest, no plugins, distribution and epmd private to it.

    `extra_config` adds lines to its rabbitmq.conf.
    """

    name: ClassVar[str] = "rabbitmq"

    def __init__(
        self, data_dir: Path, port: int | None = None, extra_config: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.extra_config = dict(extra_config or {})

    @property
    def broker(self) -> Broker:
        """Address and credentials."""
        return Broker(HOST, self.port)

    def _launch(self) -> subprocess.Popen[bytes]:
        script = find_rabbitmq_server()
        epmd_port = free_port()
        environment = self._environment(epmd_port)
        # RabbitMQ starts epmd as a daemon when there is none, and leaves it behind. It finds one of
        # ours instead: in the foreground, on a port of its own, ended with the node.
        epmd = _find_epmd()
        self._companions = [
            self._spawn([epmd, "-address", HOST, "-port", str(epmd_port)], environment)
        ]
        for _ in range(100):
            if _accepts(epmd_port):
                break
            time.sleep(POLL_INTERVAL)
        return self._spawn([script], environment)

    def _environment(self, epmd_port: int) -> dict[str, str]:
        """Write the configuration to the data directory; return the environment pointing to it."""
        config = {
            "listeners.tcp.local": f"{HOST}:{self.port}",
            "vm_memory_high_watermark.absolute": "1GiB",
            "disk_free_limit.absolute": "50MB",
            "raft.wal_max_size_bytes": "64000000",
            "collect_statistics": "none",
            "collect_statistics_interval": "60000",
            **self.extra_config,
        }
        (self.data_dir / "rabbitmq.conf").write_text(
            "".join(f"{key} = {value}\n" for key, value in config.items())
        )
        (self.data_dir / "rabbitmq-env.conf").write_text("")
        (self.data_dir / "enabled_plugins").write_text("[].\n")
        # Nothing of the caller's: RABBITMQ_PORT and its like mean other things to the server.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_", "ERLANG_"))
        }
        return inherited | {
            "HOME": str(self.data_dir),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": "twinstream@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(self.data_dir / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.data_dir / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data_dir / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data_dir / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.data_dir / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data_dir / "log"),
            "RABBITMQ_PID_FILE": str(self.data_dir / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.data_dir / "config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} "
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            # Else the script stays in front of the server as a shell, and gets the signals.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _serves(self) -> bool:
        parameters = pika.ConnectionParameters(
            HOST, self.port, socket_timeout=2, stack_timeout=5, blocked_connection_timeout=5
        )
        try:
            pika.BlockingConnection(parameters).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True


class MongoServer(LocalServer):
    """A MongoDB-compatible server (SecantusDB), one replica set member; writes survive a kill.

    `extra_args` go to its command line, `options` (`tls=true&…`) to its URI.
    """

    name: ClassVar[str] = "mongodb"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        options: str = "",
    ) -> None:
        super().__init__(data_dir, port)
        self.extra_args = tuple(extra_args)
        self.options = options

    @property
    def uri(self) -> str:
        """The connection string."""
        return f"mongodb://{HOST}:{self.port}" + (f"/?{self.options}" if self.options else "")

    def _launch(self) -> subprocess.Popen[bytes]:
        # An own empty file, since the server otherwise picks up a configuration from home or /etc.
        config = self.data_dir / "secantusd.toml"
        config.write_text("")
        command = [
            sys.executable,
            "-m",
            "secantus",
            "--config",
            str(config),
            "--host",
            HOST,
            "--port",
            str(self.port),
        ]
        options = [
            "--storage-path",
            str(self.data_dir / "data"),
            "--sync-on-commit",
            "--log-level",
            "WARNING",
        ]
        return self._spawn([*command, *options, *self.extra_args], dict(os.environ))

    def _serves(self) -> bool:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            self.uri, directConnection=True, serverSelectionTimeoutMS=2000
        )
        with client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
        return True


def find_rabbitmq_server() -> Path:
    """Return the start script of the installed RabbitMQ; raise `StackError` when there is none."""
    # The command that Debian and Red Hat put on the PATH switches to the user rabbitmq; the script
    # beside the library does not. ops/install.sh looks in the same places.
    packaged = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    brewed = [
        Path(root, "opt/rabbitmq/sbin/rabbitmq-server") for root in ("/opt/homebrew", "/usr/local")
    ]
    on_path = shutil.which("rabbitmq-server")
    for script in [*reversed(packaged), *brewed, *([Path(on_path)] if on_path else [])]:
        if script.exists():
            return script
    raise StackError(
        "RabbitMQ is not installed: run `make install`, or `apt-get install rabbitmq-server`, "
        "`dnf install rabbitmq-server` or `brew install rabbitmq`"
    )


def _find_epmd() -> Path:
    on_path = shutil.which("epmd")
    for root in (
        "/usr/lib/erlang",
        "/usr/lib64/erlang",
        "/opt/homebrew/lib/erlang",
        "/usr/local/lib/erlang",
    ):
        for candidate in Path(root).glob("erts-*/bin/epmd"):
            return candidate
    if on_path is None:
        raise StackError(
            "Erlang's epmd is not on the PATH: install RabbitMQ with its Erlang, see `make install`"
        )
    return Path(on_path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one server in the foreground until SIGINT or SIGTERM; return 0 after those, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.stack", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("server", choices=["rabbitmq", "mongodb"])
    parser.add_argument(
        "--data", type=Path, required=True, help="directory with everything the server keeps"
    )
    parser.add_argument(
        "--port", type=int, default=None, help="default: the one used last, else a free one"
    )
    options = parser.parse_args(arguments)

    def interrupt(*_: object) -> None:
        # Once is enough: a second signal must not cut the orderly stop short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    node = (RabbitMQNode if options.server == "rabbitmq" else MongoServer)(
        options.data, options.port
    )
    try:
        with node:
            print(f"{node.name} is up on {HOST}:{node.port}, data in {options.data}", flush=True)
            while node.running:
                time.sleep(0.2)
            print(f"{node.name} ended by itself; {node._last_words()}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 0
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
