"""Where a capture begins: at the stored position, with a snapshot, or with what comes now."""

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from json import dumps

from bson import Timestamp

from connectors.mongodb.checkpoints import Checkpoints
from connectors.mongodb.positions import Position, Scan, StreamPosition
from connectors.mongodb.server import ClusterTime
from connectors.mongodb.stages import match
from models.errors import ConfigurationError, LostHistoryError

log = logging.getLogger("connectors")

_LOOKS = 6
_LOOK_AGAIN_S = 1.0


def fingerprint(database: str, collections: Sequence[str]) -> str:
    """Of everything that must not change between two runs of a pipeline."""
    described = dumps([database, sorted(collections), [match(collections)]])
    return sha256(described.encode()).hexdigest()


class Beginning:
    """Decides where a capture goes on, and stores it before anything of it goes out.

    :param collections: the registered collections
    :param snapshot: `initial`, `never` or `always`
    :param on_lost_history: `resnapshot` or `fail`
    :param now: asks the cluster for its time
    :param pause: waits for some seconds
    """

    def __init__(
        self,
        collections: Sequence[str],
        snapshot: str,
        on_lost_history: str,
        now: Callable[[], ClusterTime],
        pause: Callable[[float], None],
    ) -> None:
        self._collections = list(collections)
        self._snapshot = snapshot
        self._on_lost_history = on_lost_history
        self._now = now
        self._pause = pause
        self._snapshot_begun = False

    def position(self, checkpoints: Checkpoints) -> Position:
        """The position to go on from.

        :raises LostHistoryError: the stored one is of no use
        """
        stored, fits = checkpoints.load(self._collections)
        if not fits:
            raise LostHistoryError("the collections or options differ from those of the last run")
        again = self._snapshot == "always" and not self._snapshot_begun
        if stored is not None and (stored.scans or not again):
            self._snapshot_begun = True
            return stored
        if self._snapshot != "never":
            return self._begin_snapshot(checkpoints)
        now = self._now().committed
        position = Position(StreamPosition(_after(now), time=now))
        checkpoints.store(position)
        return position

    def after_loss(self, checkpoints: Checkpoints, error: LostHistoryError) -> Position:
        """Where to go on when history is lost.

        :raises ConfigurationError: nowhere, since `fail` was asked for
        """
        if self._on_lost_history == "fail":
            raise ConfigurationError(
                f"MongoDB's history since the last position is lost ({error}); set "
                "CDC_ON_LOST_HISTORY=resnapshot to read everything again"
            ) from error
        log.warning("history is lost, reading everything again: %s", error)
        return self._begin_snapshot(checkpoints)

    def _begin_snapshot(self, checkpoints: Checkpoints) -> Position:
        """Store the time before the first row goes out: what is deleted between two attempts at
        the same snapshot would otherwise stay in the store for ever.
        """
        now = self._now().committed
        scans = tuple(Scan(name, now) for name in self._collections)
        position = Position(StreamPosition(now, time=now), scans)
        checkpoints.store(position)
        self._snapshot_begun = True
        log.info("snapshot of %s begins", ", ".join(self._collections))
        return position

    def check_time(self, position: Position) -> None:
        """Tell a cluster with a different history from one that answers with an old time: a router
        that has just started, or a primary that was just elected.

        :raises LostHistoryError: the position lies in another history
        """
        time = position.stream.time
        for look in range(_LOOKS):
            known = self._now().known
            if time is None or time <= known:
                return
            if look + 1 < _LOOKS:
                self._pause(_LOOK_AGAIN_S)
        raise LostHistoryError(
            f"the stored position is ahead of the cluster ({time} > {known}), and so may be the "
            "versions in the store, which fence off all older ones: docs/runbook.md"
        )


def _after(time: Timestamp) -> Timestamp:
    return Timestamp(time.time, time.inc + 1)
