"""The stages of the change stream, and putting together what one of them takes apart."""

from collections.abc import Sequence
from typing import Any

_WITHOUT = ["fullDocument", "fullDocumentBeforeChange", "updateDescription"]


def match(collections: Sequence[str]) -> dict[str, Any]:
    """Keeps events of other collections at the server: by equality, and but for those of the end
    of the database.
    """
    names = list(collections)
    return {
        "$match": {
            "$or": [
                {"ns.coll": {"$in": names}},
                {"to.coll": {"$in": names}},
                {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
            ]
        }
    }


SPLIT: dict[str, Any] = {"$changeStreamSplitLargeEvent": {}}
"""Has the server split events that are larger than 16 MB."""

WITHOUT_DOCUMENTS: dict[str, Any] = {"$unset": _WITHOUT}
"""Leaves of each event what is never large."""


class Reassembly:
    """Puts split events together again."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    @property
    def pending(self) -> bool:
        """Whether fragments of an event are still to come: no position lies between them."""
        return bool(self._parts)

    def add(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """One fragment, or an event that is whole.

        :returns: the whole event under the token of its last fragment; None before that
        """
        split = event.get("splitEvent")
        if split is None or split["of"] == 1:
            return event
        self._parts = event if split["fragment"] == 1 else {**self._parts, **event}
        if split["fragment"] < split["of"]:
            return None
        complete, self._parts = self._parts, {}
        return complete
