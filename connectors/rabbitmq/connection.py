"""A plain connection, and publishing a single message, for scripts and other producers."""

import json
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker
from typing_extensions import Self

from connectors.rabbitmq.settings import RabbitMQSettings
from connectors.rabbitmq.topology import topology
from connectors.rabbitmq.unwrap import unwrapped

_NOT_FOUND = 404


class RabbitMQConnection:
    """A plain blocking connection for scripts and other producers.

    >>> with RabbitMQConnection(port=5673) as connection:
    ...     connection.get_channel().queue_declare("jobs", durable=True)

    :param host: and the others: None takes the value of `settings`
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        *,
        settings: RabbitMQSettings | None = None,
    ) -> None:
        base = settings or RabbitMQSettings()
        self._settings = RabbitMQSettings(
            host=base.host if host is None else host,
            port=base.port if port is None else port,
            username=base.username if username is None else username,
            password=base.password if password is None else password,
            virtual_host=base.virtual_host if virtual_host is None else virtual_host,
            tls=base.tls,
            ca_file=base.ca_file,
        )
        self._connection: pika.BlockingConnection | None = None

    def __repr__(self) -> str:
        return f"RabbitMQConnection({self._settings!r}, connected={self.is_connected()})"

    def connect(self) -> None:
        """Connect, if not connected.

        :raises ConnectionError: the broker cannot be reached, or refuses
        """
        if self.is_connected():
            return
        try:
            self._connection = pika.BlockingConnection(self._settings.parameters())
        except (AMQPError, OSError) as error:
            where = f"{self._settings.host}:{self._settings.port}"
            reason = str(unwrapped(error)) or type(error).__name__
            raise ConnectionError(f"RabbitMQ at {where} cannot be reached: {reason}") from error

    def is_connected(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self._connection is not None and self._connection.is_open

    def get_channel(self) -> BlockingChannel:
        """A new channel.

        :raises ConnectionError: not connected
        """
        if self._connection is None or not self._connection.is_open:
            raise ConnectionError("not connected to RabbitMQ: call connect() first")
        return self._connection.channel()

    def declare(self, declarations: Iterable[Mapping[str, Any]]) -> None:
        """Make the queues that are not there, and take the others as they are.

        :param declarations: arguments of `queue_declare`
        :raises pika.exceptions.AMQPError: the broker refuses
        """
        for declaration in declarations:
            if not self.has_queue(declaration["queue"]):
                with self.get_channel() as channel:
                    channel.queue_declare(**declaration)

    def has_queue(self, name: str) -> bool:
        """Whether a queue is there.

        :raises pika.exceptions.AMQPError: the broker refuses to say
        """
        channel = self.get_channel()
        try:
            channel.queue_declare(name, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise
            return False
        channel.close()
        return True

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        self._connection = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def publish_to_rabbitmq(
    queue_name: str,
    data: str | bytes | Mapping[str, Any],
    *,
    settings: RabbitMQSettings | None = None,
) -> None:
    """Publish one message from any other producer, and return when the broker has it on disk.

    A queue that is not there is declared as the flows declare it, with its dead-letter queue. For
    many messages, keep a connection instead.

    :param queue_name: `RABBITMQ_QUEUE_NAME`; with several partitions, the queue of the document's
        partition, see `models.identity.partition_of`
    :param data: the body; a mapping is sent as JSON
    :raises ConnectionError: the broker cannot be reached
    :raises pika.exceptions.AMQPError: the broker does not take the message
    """
    body = json.dumps(data).encode() if isinstance(data, Mapping) else data
    with RabbitMQConnection(settings=settings) as connection:
        if not connection.has_queue(queue_name):
            connection.declare(topology(queue_name))
        channel = connection.get_channel()
        channel.confirm_delivery()
        channel.basic_publish(
            exchange="",
            routing_key=queue_name,
            body=body.encode() if isinstance(body, str) else body,
            properties=pika.BasicProperties(
                content_type="application/json", delivery_mode=2, timestamp=int(time.time())
            ),
            mandatory=True,
        )
