"""Private local servers: RabbitMQ, a MongoDB-compatible one, Qdrant's engine; each in its folder.

Tests, the demo, the benchmarks and `make dev` run against real servers without administrator
rights and without touching any service of the machine: everything (data, log, cookie, ports)
belongs to one data directory, listens on loopback only, and ends with the program that started
it, whatever kills that.

    with RabbitMQNode(Path("data/broker")) as broker, MongoServer(Path("data/mongo")) as mongo:
        ...  # broker.port, mongo.uri

One server in the foreground:

    python -m ops.stack rabbitmq --data .data/rabbitmq --port 5672
    python -m ops.stack qdrant --data .data/qdrant
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from flows.logs import escape_unencodable
from models.errors import ConfigurationError
from ops.interrupt import Interrupted, interrupt_on_signals
from ops.local_server import HOST, LocalServer, StackError
from ops.mongo_server import MongoServer
from ops.qdrant_store import QdrantStoreServer
from ops.rabbitmq_node import RabbitMQNode

SERVERS: Final[Mapping[str, type[LocalServer]]] = {
    "rabbitmq": RabbitMQNode,
    "mongodb": MongoServer,
    "qdrant": QdrantStoreServer,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one server in the foreground until a signal; return 0 after that, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.stack",
        description="Run one private server in the foreground, until Ctrl-C.",
    )
    parser.add_argument("server", choices=list(SERVERS), help="the server to run")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder for everything that the server keeps"
    )
    parser.add_argument(
        "--port", type=int, help="port on 127.0.0.1 (default: the one used last, else a free one)"
    )
    options = parser.parse_args(arguments)

    escape_unencodable()
    interrupt_on_signals()
    try:
        node = SERVERS[options.server](options.data, options.port)
        with node:
            print(f"{node.name} is up on {HOST}:{node.port}, data in {options.data}", flush=True)
            while node.running:
                time.sleep(0.2)
            print(f"{node.name} ended by itself; {node.last_words()}", file=sys.stderr)
            return 1
    except Interrupted:
        return 0
    except (ConfigurationError, StackError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
