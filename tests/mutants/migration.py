"""Sabotages of a change of the model."""

from typing import Final

from tests.mutants.mutant import Mutant

_NO_GAP: Final = "a migration has no gap"
_ONE_MODEL: Final = "a search is by one model, which has everything"
_FLOW: Final = "flows/model_and_store.py"
_TESTS: Final = "tests/unit/test_migration.py"

MIGRATION: Final = (
    Mutant(
        "a-change-goes-to-one-of-two-models",
        _NO_GAP,
        _FLOW,
        "                results += others.apply(place, batch)\n",
        "                pass\n",
        _TESTS,
    ),
    Mutant(
        "a-flow-asks-for-the-models-once",
        _NO_GAP,
        _FLOW,
        "        asked = meanwhile(self._places)  # now",
        '        asked = self.__dict__.setdefault("_asked", meanwhile(self._places))  # now',
        _TESTS,
    ),
    Mutant(
        "a-message-of-the-backfill-is-for-all-models",
        _NO_GAP,
        "flows/places.py",
        "    return change.event.place in (None, place)\n",
        "    return True\n",
        _TESTS,
    ),
    Mutant(
        "a-removed-model-is-waited-for",
        _NO_GAP,
        "connectors/qdrant/patient.py",
        "if is_missing_collection(error) and self._removed():",
        "if is_missing_collection(error) and not self._removed:",
        _TESTS,
    ),
    Mutant(
        "the-collections-of-a-removed-model-are-used-again",
        _ONE_MODEL,
        "models/places.py",
        "serial = self.serial + 1\n",
        "serial = 2\n",
        "tests/unit/test_places.py",
    ),
    Mutant(
        "a-half-filled-model-is-searched",
        _ONE_MODEL,
        "models/places.py",
        '        if place.state != "ready":\n',
        '        if place.state == "removing":\n',
        "tests/unit/test_places.py",
    ),
    Mutant(
        "a-search-by-a-removed-model-finds-nothing",
        _ONE_MODEL,
        "retrieval/client.py",
        "        if not all(answers):\n            self._check_place()\n",
        "",
        _TESTS,
    ),
)
