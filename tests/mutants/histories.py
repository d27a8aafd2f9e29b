"""Sabotages that the generated histories find as well, and not only the tests made for them."""

from tests.mutants.mutant import Mutant

PLAN = "flows/operators/plan.py"
PUBLISHER = "connectors/rabbitmq/publisher.py"

_HISTORIES = "tests/chaos/test_histories.py::test_every_history_converges"
_LOST = "nothing is lost"

HISTORIES = [
    Mutant(
        "histories-limits-are-content",
        "what is away or at a limit is waited for",
        "connectors/qdrant/answers.py",
        "    return refused and bool(_TOO_LARGE.search(text) or _MALFORMED.search(text))\n",
        "    return refused\n",
        _HISTORIES,
    ),
    Mutant(
        "histories-half-written-refusals-stay",
        "a refusal leaves nothing half written",
        "flows/operators/index.py",
        "            self._take_back(change.key)\n            return []\n",
        "            return []\n",
        _HISTORIES,
    ),
    Mutant(
        "histories-ordinal-does-not-count",
        "an older change never overwrites a newer one",
        PLAN,
        "    if version < stored.version:\n",
        "    if version.time < stored.version.time:\n",
        _HISTORIES,
    ),
    Mutant(
        "histories-a-nack-counts-as-a-confirm",
        _LOST,
        PUBLISHER,
        "        if isinstance(method, Basic.Nack):\n",
        "        if False:\n",
        _HISTORIES,
    ),
    Mutant(
        "histories-unconfirmed-is-not-sent-again",
        _LOST,
        PUBLISHER,
        "            self._waiting.extendleft(reversed(self._sent))\n",
        "",
        _HISTORIES,
    ),
    Mutant(
        "histories-vectors-of-another-model-are-kept",
        "in sync means equal to a fresh sync",
        PLAN,
        '_VECTOR_HANGS_ON = {"chunk_hash", "model"}',
        '_VECTOR_HANGS_ON = {"chunk_hash"}',
        _HISTORIES,
    ),
]
