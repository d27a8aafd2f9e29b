"""A private RabbitMQ node, from the distribution's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pika

from ops.local_server import HOST, POLL_INTERVAL, LocalServer, StackError, accepts, free_port


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a RabbitMQ node listens, and who may connect."""

    host: str
    port: int
    username: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default, for loopback only
    virtual_host: str = "/"


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
            if accepts(epmd_port):
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
        home = _quotable(self.data_dir)
        return inherited | {
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": "twinstream@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "config"),
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


def _quotable(folder: Path) -> Path:
    """A path to the server's working directory that it can put between single quotes, as it does
    when it asks `df` for the free space: with another quote within, it waits for an end of that.
    """
    working_directory = Path("/proc/self/cwd")
    if "'" not in str(folder):
        return folder
    if not working_directory.exists():
        raise StackError(f"RabbitMQ cannot work in a folder with a quote in its path: {folder}")
    return working_directory


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
