"""The input of the rows about embedding: real documents, their messages and their chunks."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.place import Place
from connectors.rabbitmq import RabbitMQPublisher, queue_names, topology
from examples.corpus import corpus
from flows.operators.encode import encode
from flows.operators.prepare import chunk, clean, decode
from flows.text.chunk import Chunker
from models import CapturedChange, Delivery, Message
from models.prepared import Upsert
from tests.hashing import HashingEmbedder

Document = tuple[str, dict[str, Any]]


def chunker() -> Chunker:
    """The flow's chunker of the packaged model."""
    embedder = HashingEmbedder()
    return Chunker(embedder.tokenizer, embedder.max_tokens)


def documents(chunks: int, seed: int = 1) -> tuple[list[Document], list[str]]:
    """Documents of all types, in a random order, of about so many chunks; and their chunks."""
    cutter = chunker()
    every = list(corpus())
    random.Random(seed).shuffle(every)
    taken: list[Document] = []
    texts: list[str] = []
    for collection, document in every:
        if len(texts) >= chunks:
            break
        taken.append((collection, document))
        texts += texts_of([taken[-1]], cutter)
    return taken, texts


def prepare(collection: str, document: dict[str, Any], cut: Any, version: int = 1 << 32) -> Upsert:
    """A document as it reaches the index step, by way of its message."""
    (message,) = messages([(collection, document)], ["q"], version)
    prepared: Upsert = cut(clean(decode(Delivery("q", message.body, message.headers))))
    return prepared


def texts_of(some: Iterable[Document], cutter: Chunker) -> list[str]:
    """The chunks of documents, in their order."""
    return [
        piece.content
        for collection, document in some
        for piece in prepare(collection, document, chunk(lambda: cutter)).chunks
    ]


def messages(
    some: Iterable[Document], queues: Sequence[str], version: int = 1 << 32, op: str = "insert"
) -> list[Message]:
    """The messages that the cdc flow would send."""
    step = encode(queues)
    return [
        message
        for collection, document in some
        for message in step(CapturedChange(op, collection, version, document["_id"], document))
    ]


def publish(place: Place, some: Sequence[Message], partitions: int = 1) -> None:
    """Put messages into the queues of a place, and wait for the confirms."""
    publisher = RabbitMQPublisher(place.broker, topology(place.queue, partitions))
    publisher.start()
    for begin in range(0, len(some), 200):
        publisher.submit(some[begin : begin + 200])
    publisher.flush()
    publisher.close()


def queues(place: Place, partitions: int = 1) -> list[str]:
    """Names of the queues of a place."""
    return queue_names(place.queue, partitions)
