"""One capture for each pipeline: who owns it, who waits for it, and who has lost it."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from connectors.mongodb.owner import Owner
from models.errors import ConnectorFailedError

log = logging.getLogger("connectors")

BEAT_S = 2.0
POLL_S = 1.0
_STILL_S = 10.0
_SHOWN_EVERY = 5


class Lease:
    """The right to move the position of a pipeline, kept in its checkpoint document.

    No clock of another machine is read. The owner advances a counter every two seconds; whoever
    has watched it stand still for ten seconds of its own takes over, and at once where the owner
    gave it back, or can be proven to be dead. Every write of the owner is conditional on its id,
    so one that was stopped or cut off meanwhile can write no more.

    Crash after each step: the document is made without an owner, and taken by a second write; a
    document of the first release, which was one for all pipelines of a database, is marked with
    the name of its heir, copied, then deleted, and each step may be repeated by the same heir.

    :param collection: where the document is kept; its writes must outlive an election
    :param name: the pipeline, and `_id` of the document
    :param former: the `_id` that the document had in the first release
    """

    def __init__(self, collection: "Collection[Any]", name: str, former: str) -> None:
        self._collection = collection
        self._name = name
        self._former = former
        self._owner = Owner.here()
        self._seen: tuple[str, int] | None = None
        self._since = self._looked = 0.0
        self._polls = 0

    @property
    def mine(self) -> dict[str, Any]:
        """Finds the document while this capture owns the pipeline, and nothing after that."""
        return {"_id": self._name, "owner.id": self._owner.id}

    def take(self) -> bool:
        """One try to own the pipeline; whether this capture owns it now."""
        document = self._collection.find_one({"_id": self._name})
        if document is None:
            self._make()
            document = self._collection.find_one({"_id": self._name}) or {}
        owner = Owner.read(document.get("owner"))
        beat = document.get("beat", 0)
        if owner is not None and owner.id != self._owner.id and not self._is_over(owner, beat):
            self._wait_for(owner, beat)
            return False
        unchanged = {
            "_id": self._name,
            "owner.id": owner.id if owner else None,
            "beat": document.get("beat"),
        }
        change = {
            "$set": {"owner": self._owner._asdict(), "beat": beat + 1},
            "$unset": {"standby": 1},
        }
        taken = bool(self._collection.update_one(unchanged, change).matched_count)
        if taken:
            self._collection.delete_one({"_id": self._former, "heir": self._name})
            if self._seen is not None:
                log.warning("this capture owns %s now", self._name)
        return taken

    def beat(self) -> None:
        """Show that the owner lives.

        :raises ConnectorFailedError: another capture owns the pipeline
        """
        # Which member has seen it does not matter, and waiting for a majority could take longer
        # than others wait for a beat. The time is the server's, for whoever asks for the status.
        change = {"$inc": {"beat": 1}, "$currentDate": {"beat_at": True}}
        one = self._collection.with_options(write_concern=WriteConcern(w=1))
        self.check(one.update_one(self.mine, change).matched_count)

    def check(self, matched: int) -> None:
        """Tell by the matches of a write by `mine` whether the pipeline is still owned.

        :raises ConnectorFailedError: another capture owns the pipeline
        """
        if not matched:
            raise ConnectorFailedError(
                f"another capture has taken {self._name}, which this one left alone for longer "
                f"than {_STILL_S:.0f} s: it goes on from the last position"
            )

    def release(self) -> None:
        """Let the next one take it without waiting."""
        self._collection.update_one(self.mine, {"$unset": {"owner": 1}})

    def _is_over(self, owner: Owner, beat: int) -> bool:
        if owner.is_gone():
            return True
        now = time.monotonic()
        # Only what was watched counts: neither owner nor watcher could reach a server that was
        # away, or do anything on a machine that was asleep.
        watched = now - self._looked < 3 * POLL_S
        self._looked = now
        if (owner.id, beat) != self._seen or not watched:
            if self._seen is None or self._seen[0] != owner.id:
                log.warning("standby: %s is owned by %s", self._name, owner)
            self._seen, self._since = (owner.id, beat), now
        return now - self._since >= _STILL_S

    def _wait_for(self, owner: Owner, beat: int) -> None:
        """Leave a note for whoever asks for the status."""
        if self._polls % _SHOWN_EVERY == 0:
            standby = {"host": self._owner.host, "pid": self._owner.pid, "beat": beat}
            where = {"_id": self._name, "owner.id": owner.id}
            self._collection.update_one(where, {"$set": {"standby": standby}})
        self._polls += 1

    def _make(self) -> None:
        """Make the document, from that of the first release if no other pipeline has it."""
        inherited: Mapping[str, Any] | None = self._collection.find_one_and_update(
            {"_id": self._former, "heir": {"$in": [None, self._name]}},
            {"$set": {"heir": self._name}},
        )
        document = {**(inherited or {}), "_id": self._name}
        document.pop("heir", None)
        try:
            self._collection.insert_one(document)
        except DuplicateKeyError:  # another capture of this pipeline was quicker
            return
        if inherited is not None:
            log.info("the position of %s is now that of %s", self._former, self._name)
