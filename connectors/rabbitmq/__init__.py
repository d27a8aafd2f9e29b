"""RabbitMQ: the queues, source and publisher of the dataflows, a plain connection for scripts."""

from connectors.rabbitmq.connection import RabbitMQConnection, publish_to_rabbitmq
from connectors.rabbitmq.publisher import RabbitMQPublisher
from connectors.rabbitmq.settings import RabbitMQSettings
from connectors.rabbitmq.source import RabbitMQSource
from connectors.rabbitmq.topology import dead_letter_queue, queue_names, topology

__all__ = [
    "RabbitMQConnection",
    "RabbitMQPublisher",
    "RabbitMQSettings",
    "RabbitMQSource",
    "dead_letter_queue",
    "publish_to_rabbitmq",
    "queue_names",
    "topology",
]
