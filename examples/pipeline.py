"""The pipeline of the demo: what it runs with, and looking at both of its sides."""

import os
from pathlib import Path
from typing import Any, Final

from pymongo.database import Database

from connectors.qdrant import open_reader
from connectors.rabbitmq import RabbitMQConnection, dead_letter_queue
from flows.embedding.embedder import Embedder
from flows.settings import VARIABLES, Settings
from flows.text.chunk import Chunker
from models import DOCUMENT_TYPES
from models.errors import StoreUnavailableError
from ops.flow_process import FlowProcesses
from ops.mongo_server import MongoServer
from ops.rabbitmq_node import RabbitMQNode
from retrieval.sync import State, WithoutEmbedding, expected_state, stored_state

_MODEL: Final = ("EMBEDDING_MODEL", "EMBEDDING_DEVICE", "EMBEDDING_PRECISION")


def environment(mongo: MongoServer, broker: RabbitMQNode, data: Path) -> dict[str, str]:
    """Every variable that the flows read: of the caller's and of `.env`, only the model counts."""
    return {
        **dict.fromkeys(VARIABLES, ""),
        "MONGO_DATABASE_HOST": mongo.uri,
        "RABBITMQ_HOST": broker.broker.host,
        "RABBITMQ_PORT": str(broker.broker.port),
        "RABBITMQ_QUEUE_NAME": "demo",
        "QDRANT_PATH": str(data / "qdrant"),
        **{name: os.environ[name] for name in _MODEL if name in os.environ},
    }


class Pipeline:
    """Everything that runs, and what is needed to look at it."""

    def __init__(
        self, database: Database[dict[str, Any]], flows: FlowProcesses, settings: Settings
    ) -> None:
        self.database = database
        self.flows = flows
        self.store = settings.qdrant
        self.embedder = Embedder(
            settings.embedding_model, settings.embedding_device, settings.embedding_precision
        )
        self._settings = settings

    def expected(self) -> State:
        """The points, without vectors, of a fresh sync of the present state of MongoDB."""
        chunker = Chunker(self.embedder.tokenizer, self.embedder.max_tokens)
        stand_in = WithoutEmbedding(self.embedder.name, self.embedder.dimension)
        documents = ((name, row) for name in DOCUMENT_TYPES for row in self.database[name].find())
        return expected_state(documents, chunker, stand_in, self._settings.max_chunks)

    def stored(self) -> State:
        """The points that are stored now; none as long as there is no store."""
        try:
            with open_reader(self.store) as client:
                return stored_state(client, with_vectors=False)
        except StoreUnavailableError:
            return State()

    def dead_letters(self) -> int:
        """Messages in the dead-letter queue."""
        with RabbitMQConnection(settings=self._settings.rabbitmq) as connection:
            queue = dead_letter_queue(self._settings.queue)
            declared = connection.get_channel().queue_declare(queue, passive=True)
        return int(declared.method.message_count)
