"""Sabotages of what is told apart: poison, limits, and other producers."""

from tests.mutants.mutant import Mutant

INDEX = "flows/operators/index.py"
ANSWERS = "connectors/qdrant/answers.py"
PREPARE = "flows/operators/prepare.py"
LETTERS = "models/dead_letters.py"
REPLAY = "flows/replay.py"

_WAITING = "what is away or at a limit is waited for"

REFUSALS = [
    Mutant(
        "a-refusal-by-the-store-retracts",
        "a refusal by the store removes nothing",
        INDEX,
        "        removal = retract(change) if isinstance(error, ModelRefusedError) else None\n",
        "        removal = retract(change)\n",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "a-refused-batch-is-dead-as-a-whole",
        "poison costs its neighbours nothing",
        INDEX,
        "            if len(changes) > 1:\n"
        "                return [result for change in changes for result in self._write([change], keys)]\n"
        '            return [dead_at("index")(changes[0], error), *self._clear_up(changes[0], error)]\n',
        '            return [dead_at("index")(change, error) for change in changes]\n',
        "tests/unit/test_index.py tests/unit/test_refusals.py",
    ),
    Mutant(
        "half-written-refusals-stay",
        "a refusal leaves nothing half written",
        INDEX,
        "            self._take_back(change.key)\n            return []\n",
        "            return []\n",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "a-refusal-of-a-retraction-escapes",
        "nothing escapes from the handling of a refusal",
        INDEX,
        "        except _REFUSALS as again:\n            _warn(change.key, again)\n",
        "        except ZeroDivisionError as again:\n            _warn(change.key, again)\n",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "a-refusal-of-taking-back-escapes",
        "nothing escapes from the handling of a refusal",
        INDEX,
        "                self._store.suspect(key)\n        except _REFUSALS as again:\n",
        "                self._store.suspect(key)\n        except ZeroDivisionError as again:\n",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "foreign-messages-retract",
        "a message of another producer takes nothing away",
        PREPARE,
        "    return None if change.event.foreign else Removal(change.delivery, change.event)\n",
        "    return Removal(change.delivery, change.event)\n",
        "tests/unit/test_flows.py tests/unit/test_order.py",
    ),
    Mutant(
        "dead-versions-leave-the-older-one",
        "in sync means equal to a fresh sync",
        PREPARE,
        "    return None if change.event.foreign else Removal(change.delivery, change.event)\n",
        "    return None\n",
        "tests/unit/test_flows.py",
    ),
    Mutant(
        "dead-letters-lose-their-body",
        "a dead letter has its body byte for byte",
        LETTERS,
        "            delivery.body,\n            stage,\n",
        "            delivery.body[:100],\n            stage,\n",
        "tests/unit/test_flows.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "a-step-that-raises-ends-the-flow",
        "poison costs its neighbours nothing",
        "flows/operators/attempt.py",
        "            except Exception as error:  # noqa: BLE001 (the item's own fault, whatever it is)\n",
        "            except KeyError as error:\n",
        "tests/unit/test_flows.py",
    ),
    Mutant(
        "unencodable-changes-keep-their-older-version",
        "in sync means equal to a fresh sync",
        "flows/cdc.py",
        "encode(queues), unencodable, removal(queues))",
        "encode(queues), unencodable)",
        "tests/unit/test_flows.py",
    ),
    Mutant(
        "a-refused-edit-leaves-a-record-that-lies",
        "a refusal leaves nothing half written",
        INDEX,
        "            if stored.record is not None and not true:\n"
        "                self._store.suspect(key)\n",
        "",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "the-new-state-is-taken-back-when-the-old-is-gone",
        "a refusal by the store removes nothing",
        INDEX,
        "            if set(stored.named) <= set(stored.present):\n",
        "            if True:\n",
        "tests/unit/test_refusals.py",
    ),
    Mutant(
        "limits-of-the-store-are-refusals",
        _WAITING,
        ANSWERS,
        "    return isinstance(error, STORE_ERRORS) and not (_is_content(error) or is_gone(error))\n",
        "    return _code(error) in (None, grpc.StatusCode.UNAVAILABLE)\n",
        "tests/unit/test_answers.py",
    ),
    Mutant(
        "every-invalid-argument-is-content",
        _WAITING,
        ANSWERS,
        "    return refused and bool(_TOO_LARGE.search(text) or _MALFORMED.search(text))\n",
        "    return refused\n",
        "tests/unit/test_answers.py",
    ),
    Mutant(
        "a-full-disk-is-content",
        _WAITING,
        ANSWERS,
        "    return refused and bool(_TOO_LARGE.search(text) or _MALFORMED.search(text))\n",
        "    return bool(re.search('larger|Validation|413|UUID|disk', text)) or 'o space' in text\n",
        "tests/unit/test_answers.py",
    ),
    Mutant(
        "what-is-away-is-given-up-after-some-tries",
        _WAITING,
        "connectors/patience.py",
        "                if not self._away(error):\n                    raise\n",
        "                if not self._away(error) or backoff.next() > 1:\n"
        "                    raise\n",
        "tests/unit/test_answers.py",
    ),
    Mutant(
        "an-error-of-pruning-ends-the-flow",
        "nothing escapes from the handling of a refusal",
        "connectors/qdrant/store.py",
        "        except Exception as error:  # noqa: BLE001 (no error of this may end or stop a flow)\n",
        "        except ZeroDivisionError as error:\n",
        "tests/unit/test_answers.py",
    ),
    Mutant(
        "a-replay-makes-a-foreign-message-ours",
        "a message of another producer takes nothing away",
        REPLAY,
        '                kept["foreign"] = True\n',
        "                pass\n",
        "tests/unit/test_order.py",
    ),
    Mutant(
        "a-replayed-letter-is-given-up-before-it-is-confirmed",
        "nothing is given up before it is confirmed",
        REPLAY,
        "        headers = dict(properties.headers or {})\n"
        '        key = _key(headers, body or b"")\n',
        "        channel.basic_ack(method.delivery_tag)\n"
        "        headers = dict(properties.headers or {})\n"
        '        key = _key(headers, body or b"")\n',
        "tests/unit/test_replay.py",
    ),
    Mutant(
        "dead-letters-are-tidied-up",
        "a dead letter has its body byte for byte",
        LETTERS,
        '            queue=queue, body=self.body, headers=headers, type="dead_letter", receipt=self.receipt\n',
        '            queue=queue, body=self.body.strip(), headers=headers, type="dead_letter", receipt=self.receipt\n',
        "tests/unit/test_flows.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "a-text-may-take-twenty-times-as-long",
        "poison costs its neighbours nothing",
        "flows/text/child.py",
        "        signal.setitimer(signal.ITIMER_PROF, seconds)\n",
        "        signal.setitimer(signal.ITIMER_PROF, seconds * 20)\n",
        "tests/integration/test_bounded.py::"
        "test_a_text_that_takes_for_ever_is_refused_and_its_neighbours_are_not",
    ),
    Mutant(
        "a-text-that-ends-its-process-is-tried-too-often",
        "poison costs its neighbours nothing",
        "flows/text/bounded.py",
        "        for _ in range(TRIES):\n",
        "        for _ in range(2 * TRIES):\n",
        "tests/integration/test_bounded.py",
    ),
]
