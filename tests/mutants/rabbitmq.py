"""Sabotages of publishing, consuming, confirms and acknowledgements."""

from tests.mutants.mutant import Mutant

PUBLISHER = "connectors/rabbitmq/publisher.py"
CONSUMER = "connectors/rabbitmq/consumer.py"
SOURCE = "connectors/rabbitmq/source.py"
TOPOLOGY = "connectors/rabbitmq/topology.py"

_CONFIRMED = "nothing is given up before it is confirmed"
_IN_ORDER = "changes of a document stay in order"
_PUBLISHER = "tests/unit/test_publisher.py"
_ACKNOWLEDGING = "tests/unit/test_acknowledging.py"
_BROKER = "tests/integration/test_rabbitmq.py"
_PROCESSES = "tests/chaos/test_confirms.py"

RABBITMQ = [
    Mutant(
        "submitted-counts-as-confirmed",
        _CONFIRMED,
        PUBLISHER,
        "            return self._submitted - len(self._waiting) - len(self._sent)\n",
        "            return self._submitted\n",
        _PUBLISHER,
    ),
    Mutant(
        "submitted-counts-as-confirmed-in-real-processes",
        _CONFIRMED,
        PUBLISHER,
        "            return self._submitted - len(self._waiting) - len(self._sent)\n",
        "            return self._submitted\n",
        f"{_PROCESSES}::test_no_position_is_stored_before_the_broker_has_confirmed[plain]",
    ),
    Mutant(
        "sent-counts-as-confirmed",
        _CONFIRMED,
        PUBLISHER,
        "            return self._submitted - len(self._waiting) - len(self._sent)\n",
        "            return self._submitted - len(self._waiting)\n",
        _PUBLISHER,
    ),
    Mutant(
        "a-nack-counts-as-a-confirm",
        _CONFIRMED,
        PUBLISHER,
        "        if isinstance(method, Basic.Nack):\n",
        "        if False:\n",
        _PUBLISHER,
    ),
    Mutant(
        "what-follows-a-nack-confirms-it",
        _CONFIRMED,
        PUBLISHER,
        "            last = tag if self._refused is None else min(tag, self._refused - 1)\n",
        "            last = tag\n",
        _PUBLISHER,
    ),
    Mutant(
        "a-returned-message-counts-as-confirmed",
        _CONFIRMED,
        PUBLISHER,
        "        channel.add_on_return_callback(self._returned)\n",
        "",
        f"{_BROKER}::test_the_publisher_survives_a_deleted_queue",
    ),
    Mutant(
        "answers-of-a-lost-channel-count",
        _CONFIRMED,
        PUBLISHER,
        "            self._sent.clear()\n            self._early.clear()\n",
        "            self._sent.clear()\n",
        _PUBLISHER,
    ),
    Mutant(
        "dead-letters-that-wait-count-as-confirmed",
        _CONFIRMED,
        PUBLISHER,
        "            open_ = [*self._sent, *self._waiting]\n",
        "            open_ = [*self._sent]\n",
        _PUBLISHER,
    ),
    Mutant(
        "resending-in-reverse",
        _IN_ORDER,
        PUBLISHER,
        "            self._waiting.extendleft(reversed(self._sent))\n",
        "            self._waiting.extendleft(self._sent)\n",
        _PUBLISHER,
    ),
    Mutant(
        "what-a-lost-channel-had-is-not-sent-again",
        "nothing is lost",
        PUBLISHER,
        "            self._waiting.extendleft(reversed(self._sent))\n",
        "",
        _PUBLISHER,
    ),
    Mutant(
        "messages-are-kept-in-memory",
        "nothing is lost",
        PUBLISHER,
        "        delivery_mode=2,\n",
        "        delivery_mode=1,\n",
        f"{_BROKER}::test_messages_are_persistent_and_described",
    ),
    Mutant(
        "a-full-queue-is-sent-whole-windows",
        "what is away or at a limit is waited for",
        PUBLISHER,
        "        self._window = 1\n",
        "",
        _PUBLISHER,
    ),
    Mutant(
        "everybody-has-room",
        "memory is bounded",
        PUBLISHER,
        "        return len(self._waiting) <= self._full_window and not self.is_heavy\n",
        "        return True\n",
        _PUBLISHER,
    ),
    Mutant(
        "acknowledged-before-the-epoch-is-closed",
        _CONFIRMED,
        SOURCE,
        "        self._closed += self._closing\n        self._closing = []\n",
        "        self._closed += [*self._closing, *self._handed_on]\n"
        "        self._closing, self._handed_on = [], []\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "acknowledged-before-the-dead-letter-is-confirmed",
        _CONFIRMED,
        SOURCE,
        "        unconfirmed = self._dead_letters.unconfirmed()\n",
        "        unconfirmed: set[Receipt | None] = set()\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "acknowledged-before-the-dead-letter-is-confirmed-in-real-processes",
        _CONFIRMED,
        SOURCE,
        "        unconfirmed = self._dead_letters.unconfirmed()\n",
        "        unconfirmed: set[Receipt | None] = set()\n",
        f"{_PROCESSES}::test_the_end_of_a_flow_acknowledges_what_an_alarm_does_not_hold_back",
    ),
    Mutant(
        "messages-that-nobody-accounts-for-count-as-confirmed",
        _CONFIRMED,
        SOURCE,
        "        if None in unconfirmed:  # of whichever delivery\n",
        "        if False:\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "nothing-is-acknowledged-at-the-end",
        "SIGTERM finishes the work in hand",
        SOURCE,
        "        self.snapshot()\n        self._close_epoch()\n",
        "        self._close_epoch()\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "nobody-looks-at-the-consumer",
        "a dead thread ends its flow",
        SOURCE,
        "        self._consumer.check()\n",
        "",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "nobody-looks-at-the-dead-letters",
        "a dead thread ends its flow",
        SOURCE,
        "        self._dead_letters.check()\n        if self._stopping",
        "        if self._stopping",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "the-model-is-loaded-after-consuming",
        "poison costs its neighbours nothing",
        SOURCE,
        "        self._before_consuming()\n"
        "        self._dead_letters.start()\n"
        "        consumer = Consumer(\n"
        "            self._settings, topology(self._queue, len(self._queues)), for_part, self._prefetch\n"
        "        )\n"
        "        consumer.start()\n",
        "        self._dead_letters.start()\n"
        "        consumer = Consumer(\n"
        "            self._settings, topology(self._queue, len(self._queues)), for_part, self._prefetch\n"
        "        )\n"
        "        consumer.start()\n"
        "        self._before_consuming()\n",
        f"{_BROKER}::test_a_model_that_does_not_load_costs_no_message_a_delivery",
    ),
    Mutant(
        "careful-mode-off",
        "poison costs its neighbours nothing",
        CONSUMER,
        "        self._careful = True\n",
        "        self._careful = False\n",
        f"{_BROKER}::test_messages_that_were_delivered_often_are_handed_on_one_by_one",
    ),
    Mutant(
        "calm-whatever-the-first-message-is",
        "poison costs its neighbours nothing",
        CONSUMER,
        "        if self._careful and _deliveries(headers) < CAREFUL_AFTER:\n",
        "        if self._careful:\n",
        f"{_BROKER}::test_messages_that_were_delivered_often_are_handed_on_one_by_one",
    ),
    Mutant(
        "the-buffer-of-a-lost-channel-is-kept",
        _IN_ORDER,
        CONSUMER,
        "            self._buffer.clear()\n",
        "",
        f"{_BROKER}::test_what_a_lost_channel_brought_is_forgotten",
    ),
    Mutant(
        "bodies-that-wait-stay-in-memory",
        "memory is bounded",
        CONSUMER,
        "        if self._in_memory and self._in_memory + size > _IN_MEMORY:\n",
        "        if False:\n",
        f"{_BROKER}::test_bodies_that_wait_are_not_all_in_memory",
    ),
    Mutant(
        "a-queue-has-several-consumers-at-a-time",
        _IN_ORDER,
        TOPOLOGY,
        '        "x-single-active-consumer": True,\n',
        "",
        f"{_BROKER}::test_a_queue_has_one_consumer_at_a_time_and_changes_hands_in_order",
    ),
    Mutant(
        "a-consumer-is-cancelled-before-it-gives-back",
        _IN_ORDER,
        CONSUMER,
        "            self._channel._cancelled.update(self._channel.consumer_tags)\n",
        "            pass\n",
        f"{_BROKER}::test_a_queue_has_one_consumer_at_a_time_and_changes_hands_in_order",
    ),
    Mutant(
        "the-first-message-is-not-handled-alone",
        _IN_ORDER,
        CONSUMER,
        "call_later(_HANDLED_S, ",
        "call_later(0.0, ",
        f"{_BROKER}::test_of_two_processes_that_start_at_once_one_handles_the_first_message_alone",
    ),
]
