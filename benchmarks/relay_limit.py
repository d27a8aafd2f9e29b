"""The yardsticks of the relay: the tightest plain loop, and the way most tutorials show.

Run as `python -m benchmarks.relay_limit KIND <mongo uri> <database> <checkpoint database>
<broker port> <queue> <events>` with one of `KINDS`; reads the change stream after the checkpoint
of the cdc flow.
"""

import sys
import threading
import time
from collections import deque
from typing import Any

import orjson
import pika
from pymongo import MongoClient

from connectors.mongodb import pipeline_name
from connectors.rabbitmq import topology

WINDOW = 1000


def events(uri: str, database: str, token: Any) -> Any:
    """The change stream after a token, and the resume token of what was read."""
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    return client[database].watch(
        full_document="updateLookup", resume_after=token, batch_size=1000, max_await_time_ms=500
    )


def encoded(event: Any) -> tuple[bytes, dict[str, Any]]:
    """Body and headers of the message of an event."""
    document = event["fullDocument"]
    document["entry_id"] = str(document.pop("_id"))
    document["type"] = event["ns"]["coll"]
    time_ = event["clusterTime"]
    version = time_.time << 32 | time_.inc
    headers = {"op": event["operationType"], "version": version, "schema": 1}
    return orjson.dumps(document), headers


def properties(headers: dict[str, Any]) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        headers=headers,
        timestamp=int(time.time()),
    )


def tight(  # noqa: C901 (the callbacks of one connection)
    stream: Any, checkpoints: Any, port: int, queue: str, total: int
) -> None:
    """One thread reads and encodes, the connection's own thread publishes and takes confirms."""
    waiting: deque[tuple[bytes, dict[str, Any]]] = deque()
    sent = confirmed = 0
    done = threading.Event()
    opened = threading.Event()
    state: dict[str, Any] = {}

    def pump() -> None:
        nonlocal sent
        channel = state["channel"]
        while waiting and sent - confirmed < WINDOW:
            body, headers = waiting.popleft()
            sent += 1
            channel.basic_publish("", queue, body, properties(headers), mandatory=True)

    def on_confirm(frame: Any) -> None:
        nonlocal confirmed
        confirmed = max(confirmed, frame.method.delivery_tag)
        if sent - confirmed < WINDOW // 2:
            pump()
        if confirmed >= total:
            done.set()

    def on_channel(channel: Any) -> None:
        state["channel"] = channel
        channel.confirm_delivery(on_confirm, callback=lambda _frame: opened.set())

    connection = pika.SelectConnection(
        pika.ConnectionParameters(port=port),
        lambda connection: connection.channel(on_open_callback=on_channel),
    )
    threading.Thread(target=connection.ioloop.start, daemon=True).start()
    opened.wait()
    stored_at = time.monotonic()
    for count, event in enumerate(stream, 1):
        waiting.append(encoded(event))
        if count % 100 == 0 or count == total:
            connection.ioloop.add_callback_threadsafe(pump)
            while len(waiting) > 4 * WINDOW:
                time.sleep(0.005)
            if time.monotonic() - stored_at > 1:
                stored_at = time.monotonic()
                checkpoints.replace_one({"_id": "tight"}, {"token": event["_id"]}, upsert=True)
        if count == total:
            break
    done.wait()
    checkpoints.replace_one({"_id": "tight"}, {"token": stream.resume_token}, upsert=True)


def tight_alone(stream: Any, checkpoints: Any, port: int, queue: str, total: int) -> None:
    """Everything in one thread: no lock, and no change of threads."""
    sent = confirmed = 0
    state: dict[str, Any] = {"stored_at": time.monotonic()}

    def pump() -> None:
        nonlocal sent
        channel = state["channel"]
        while sent < total and sent - confirmed < WINDOW:
            event = stream.try_next()
            if event is None:
                continue
            body, headers = encoded(event)
            sent += 1
            channel.basic_publish("", queue, body, properties(headers), mandatory=True)
        if time.monotonic() - state["stored_at"] > 1:
            state["stored_at"] = time.monotonic()
            checkpoints.replace_one({"_id": "tight"}, {"token": stream.resume_token}, upsert=True)

    def on_confirm(frame: Any) -> None:
        nonlocal confirmed
        confirmed = max(confirmed, frame.method.delivery_tag)
        if sent - confirmed < WINDOW // 2:
            pump()
        if confirmed >= total:
            connection.ioloop.stop()

    def on_channel(channel: Any) -> None:
        state["channel"] = channel
        channel.confirm_delivery(on_confirm, callback=lambda _frame: pump())

    connection = pika.SelectConnection(
        pika.ConnectionParameters(port=port),
        lambda connection: connection.channel(on_open_callback=on_channel),
    )
    connection.ioloop.start()
    checkpoints.replace_one({"_id": "tight"}, {"token": stream.resume_token}, upsert=True)


def connection_per_message(
    stream: Any, _checkpoints: Any, port: int, queue: str, total: int
) -> None:
    """A new connection, declaration and confirm for each message."""
    for count, event in enumerate(stream, 1):
        body, headers = encoded(event)
        connection = pika.BlockingConnection(pika.ConnectionParameters(port=port))
        channel = connection.channel()
        for declaration in topology(queue):
            channel.queue_declare(**declaration)
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, properties(headers), mandatory=True)
        connection.close()
        if count == total:
            break


KINDS = {
    "tight": tight,
    "alone": tight_alone,
    "connection_per_message": connection_per_message,
}


def main(arguments: list[str]) -> None:
    kind, uri, database, checkpoint_database, port, queue, total = arguments
    checkpoints = MongoClient(uri)[checkpoint_database].checkpoints
    token = checkpoints.find_one({"_id": pipeline_name(database, "/", queue)})["token"]  # type: ignore[index]
    with events(uri, database, token) as stream:
        KINDS[kind](stream, checkpoints, int(port), queue, int(total))


if __name__ == "__main__":
    main(sys.argv[1:])
