"""`mongodb+srv`: a name server that does not answer at the start is waited for."""

import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.resolver
import dns.rrset
import pytest

from tests.conftest import Place
from tests.integration.test_mongodb import Run, snapshot_done
from tests.integration.test_stricter_mongodb import port_of

NAME = "cluster.example.test"
NODE = "node.example.test"


class NameServer(socketserver.ThreadingUDPServer):
    """Knows where one node is, once it is told to answer."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.node_port = port
        self.answering = False
        self.asked = 0


class _Query(socketserver.BaseRequestHandler):
    server: NameServer

    def handle(self) -> None:
        data, reply_to = self.request
        self.server.asked += 1
        if not self.server.answering:
            return
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        if query.question[0].rdtype == dns.rdatatype.SRV:
            target = f"0 0 {self.server.node_port} {NODE}."
            reply.answer.append(
                dns.rrset.from_text(query.question[0].name, 60, "IN", "SRV", target)
            )
        reply_to.sendto(reply.to_wire(), self.client_address)


@pytest.fixture
def names(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with NameServer(port_of(place.mongo_uri)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = server.server_address[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        resolve = socket.getaddrinfo

        def here(host: Any, *arguments: Any, **options: Any) -> Any:
            return resolve("127.0.0.1" if host == NODE else host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", here)
        yield server
        server.shutdown()


def test_a_name_server_that_does_not_answer_at_the_start_is_waited_for(
    place: Place, names: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    place.database.posts.insert_one({"_id": 1, "content": "x"})
    options = "tls=false&connectTimeoutMS=300"
    run = Run(place, uri=f"mongodb+srv://{NAME}/?{options}")
    answers = threading.Timer(1.5, lambda: setattr(names, "answering", True))
    answers.start()
    with caplog.at_level(logging.WARNING, "connectors"):
        seen = run.until(snapshot_done)
    assert [change.id for change in seen if change.op == "snapshot"] == [1]
    assert names.asked > 1
    assert [r.getMessage().split(" is ")[1][:4] for r in caplog.records] == ["away", "back"]
