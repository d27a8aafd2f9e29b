"""Declaring queues on a channel."""

import logging
from collections.abc import Callable
from typing import Any

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from models.errors import ConfigurationError

_PRECONDITION_FAILED = 406

log = logging.getLogger("connectors")


class Declaring:
    """Declares queues on each new channel of a link.

    The queues of documents must have the arguments that are asked for. The queue of dead letters,
    which may be older than these or belong to somebody else, is taken as it is.

    :param declarations: arguments of `queue_declare`
    """

    def __init__(self, declarations: list[dict[str, Any]]) -> None:
        self._declarations = declarations
        targets = {d["arguments"].get("x-dead-letter-routing-key") for d in declarations}
        self._lenient = [d["queue"] for d in declarations if d["queue"] in targets]
        self._as_they_are: set[str] = set()
        self._at = ""

    def declare(self, channel: Channel, done: Callable[[], None]) -> None:
        """Declare one queue after the other, then call `done`."""
        self._declare(channel, list(self._declarations), done)

    def _declare(
        self, channel: Channel, declarations: list[dict[str, Any]], done: Callable[[], None]
    ) -> None:
        if not declarations:
            self._at = ""
            done()
            return
        first, *others = declarations
        self._at = first["queue"]
        how = {"queue": self._at, "passive": True} if self._at in self._as_they_are else first
        channel.queue_declare(**how, callback=lambda _frame: self._declare(channel, others, done))

    def refused(
        self, reason: ChannelClosedByBroker
    ) -> ConfigurationError | ChannelClosedByBroker | None:
        """Judge why the broker has closed a channel.

        :returns: a configuration error, if a person has to mend something; None, if the next
            channel will do better; else the reason itself
        """
        queue, self._at = self._at, ""
        self._as_they_are.discard(queue)  # it was deleted since: the next channel makes it
        if reason.reply_code != _PRECONDITION_FAILED or "inequivalent" not in reason.reply_text:
            return reason
        if queue in self._lenient:
            self._as_they_are.add(queue)
            log.info(
                "%s exists with other arguments and is used as it is: on RabbitMQ 4 it needs a "
                "policy to keep its letters, see docs/runbook.md (%s)", queue, reason.reply_text,
            )  # fmt: skip
            return None
        return ConfigurationError(
            f"RabbitMQ: {reason.reply_text}: the queue exists with other arguments; "
            "delete it, or set RABBITMQ_QUEUE_NAME to another name"
        )
