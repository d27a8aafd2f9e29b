"""Sabotages of the capture: its positions, its snapshot, its stream, and who owns it."""

from tests.mutants.mutant import Mutant

SOURCE = "connectors/mongodb/source.py"
CAPTURE = "connectors/mongodb/capture.py"
BEGINNING = "connectors/mongodb/beginning.py"
POSITIONS = "connectors/mongodb/positions.py"
HANDOVER = "connectors/mongodb/handover.py"
LEASE = "connectors/mongodb/lease.py"

_GAP = "snapshot then stream without a gap"
_CONFIRMED = "nothing is given up before it is confirmed"
_ACKNOWLEDGING = "tests/unit/test_acknowledging.py"
_STREAM = "tests/integration/test_mongodb.py"
_STRICTER = "tests/integration/test_stricter_mongodb.py"
_LEASE = "tests/integration/test_lease.py"

MONGODB = [
    Mutant(
        "v0-not-stored-first",
        _GAP,
        BEGINNING,
        "        position = Position(StreamPosition(now, time=now), scans)\n"
        "        checkpoints.store(position)\n",
        "        position = Position(StreamPosition(now, time=now), scans)\n",
        f"{_STREAM}::test_v0_is_stored_before_the_first_row_goes_out",
    ),
    Mutant(
        "snapshots-begin-at-their-first-row",
        _GAP,
        BEGINNING,
        "        if stored is not None and (stored.scans or not again):\n",
        "        if stored is not None and not stored.scans and not again:\n",
        f"{_STREAM}::test_a_snapshot_goes_on_in_the_middle_across_id_types",
    ),
    Mutant(
        "an-owner-that-lost-its-lease-moves-the-position",
        "one owner moves the position",
        LEASE,
        '        return {"_id": self._name, "owner.id": self._owner.id}\n',
        '        return {"_id": self._name}\n',
        f"{_LEASE}::test_an_owner_that_lost_its_lease_moves_no_position",
    ),
    Mutant(
        "a-standby-takes-a-lease-that-lives",
        "one owner moves the position",
        LEASE,
        "        return now - self._since >= _STILL_S\n",
        "        return True\n",
        f"{_LEASE}::test_a_lease_whose_owner_stands_still_is_taken_and_one_that_lives_is_not",
    ),
    Mutant(
        "one-checkpoint-for-all-pipelines-of-a-database",
        "pipelines do not touch each other",
        "connectors/mongodb/checkpoints.py",
        '    parts = (quote(part, safe="") for part in (database, virtual_host, queue))\n',
        '    parts = (quote(part, safe="") for part in (database,))\n',
        f"{_LEASE}::test_two_pipelines_on_one_database_have_two_positions",
    ),
    Mutant(
        "lost-history-goes-on-from-now",
        "nothing is lost",
        BEGINNING,
        '        log.warning("history is lost, reading everything again: %s", error)\n'
        "        return self._begin_snapshot(checkpoints)\n",
        "        now = self._now().committed\n"
        "        return Position(StreamPosition(_after(now), time=now))\n",
        f"{_STREAM}::test_lost_history_is_read_again",
    ),
    Mutant(
        "renamed-collections-are-not-scanned",
        "nothing is lost",
        "connectors/mongodb/reader.py",
        '        return (*left, Scan(name, event["clusterTime"]))\n',
        "        return scans\n",
        f"{_STREAM}::test_a_collection_renamed_into_place_is_read_whole",
    ),
    Mutant(
        "a-replaced-position-is-forgotten",
        "nothing is repeated without need",
        HANDOVER,
        "            if self.to_store is position:\n                self.to_store = None\n",
        "            self.to_store = None\n",
        "tests/unit/test_handover.py",
    ),
    Mutant(
        "an-unbounded-buffer",
        "memory is bounded",
        HANDOVER,
        "            if len(self._entries) >= MAX_ENTRIES or self._bytes >= MAX_BYTES:\n",
        "            if False:\n",
        "tests/unit/test_handover.py",
    ),
    Mutant(
        "the-position-is-stored-before-the-confirm",
        _CONFIRMED,
        SOURCE,
        "        while self._closed and self._closed[0][0] <= confirmed:\n",
        "        while self._closed:\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "the-position-is-stored-before-the-confirm-in-real-processes",
        _CONFIRMED,
        SOURCE,
        "        while self._closed and self._closed[0][0] <= confirmed:\n",
        "        while self._closed:\n",
        "tests/chaos/test_confirms.py::test_no_position_is_stored_before_the_broker_has_confirmed[plain]",
    ),
    Mutant(
        "the-position-is-stored-before-its-epoch-is-closed",
        _CONFIRMED,
        SOURCE,
        "        self._close_epoch()\n"
        "        self._commit_confirmed()\n"
        "        self._publisher.check()\n",
        "        self._closing = self._handed_on or self._closing\n"
        "        self._close_epoch()\n"
        "        self._commit_confirmed()\n"
        "        self._publisher.check()\n",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "the-position-is-not-stored-at-finish",
        "SIGTERM finishes the work in hand",
        SOURCE,
        "        self._closing = self._handed_on or self._closing\n"
        "        self._handed_on = None\n",
        "",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "nobody-looks-at-the-publisher",
        "a dead thread ends its flow",
        SOURCE,
        "        self._publisher.check()\n        if self._stopping",
        "        if self._stopping",
        _ACKNOWLEDGING,
    ),
    Mutant(
        "the-last-position-is-not-stored",
        "SIGTERM finishes the work in hand",
        CAPTURE,
        "            self._store()\n            if self._checkpoints is not None and",
        "            if self._checkpoints is not None and",
        f"{_STREAM}::test_a_restart_goes_on_where_it_stopped",
    ),
    Mutant(
        "nobody-looks-at-the-capture",
        "a dead thread ends its flow",
        CAPTURE,
        "        self._keeper.check()\n        self._thread.check()\n        return",
        "        self._keeper.check()\n        return",
        f"{_STREAM}::test_lost_history_fails_where_that_is_asked_for",
    ),
    Mutant(
        "nobody-looks-at-the-lease",
        "a dead thread ends its flow",
        CAPTURE,
        "        self._keeper.check()\n        self._thread.check()\n        return",
        "        self._thread.check()\n        return",
        f"{_LEASE}::test_a_capture_that_lost_its_lease_ends_also_when_it_has_nothing_to_store",
    ),
    Mutant(
        "an-owner-without-a-heartbeat",
        "one owner moves the position",
        CAPTURE,
        "                self._lease.beat()\n",
        "                pass\n",
        f"{_LEASE}::test_a_capture_with_nothing_to_do_keeps_its_pipeline",
    ),
    Mutant(
        "reads-may-be-older-than-the-scan",
        _GAP,
        "connectors/mongodb/scan.py",
        "        session.advance_operation_time(time)\n        yield",
        "        yield",
        f"{_STRICTER}::test_reconcile_scans_nothing_older_than_its_time_and_reads_again",
    ),
    Mutant(
        "a-row-loses-to-a-change-that-it-has-seen",
        _GAP,
        "connectors/mongodb/snapshot.py",
        'CapturedChange("snapshot", name, version, id_, row, ordinal=MAX_ORDINAL)',
        'CapturedChange("snapshot", name, version, id_, row)',
        f"{_STREAM}::test_a_snapshot_reads_everything_and_then_the_changes",
    ),
    Mutant(
        "a-sweep-takes-changes-of-its-own-time",
        _GAP,
        "connectors/mongodb/snapshot.py",
        '    yield CapturedChange("drop", name, version - 1, ordinal=MAX_ORDINAL), None\n',
        '    yield CapturedChange("drop", name, version, ordinal=MAX_ORDINAL), None\n',
        f"{_STREAM}::test_a_snapshot_reads_everything_and_then_the_changes",
    ),
    Mutant(
        "the-stream-waits-for-the-scan",
        "nothing is lost",
        "connectors/mongodb/reader.py",
        "                self._scan_some(rows)\n                self._follow_some()\n",
        "                self._scan_some(rows)\n"
        "                if not scanning:\n"
        "                    self._follow_some()\n",
        f"{_STRICTER}::test_a_snapshot_may_take_longer_than_the_history_reaches",
    ),
    Mutant(
        "ordinals-begin-anew-after-a-restart",
        "an older change never overwrites a newer one",
        POSITIONS,
        '            ordinal=document.get("ordinal", 0),\n',
        "            ordinal=0,\n",
        "tests/unit/test_stream.py",
    ),
    Mutant(
        "a-position-may-be-a-foreign-token",
        "a restart finds its place",
        "connectors/mongodb/stream.py",
        "        stages = [self._match]\n",
        "        stages: list[dict[str, Any]] = []\n",
        f"{_STRICTER}::test_the_end_of_a_foreign_collection_is_no_position",
    ),
    Mutant(
        "a-position-forgets-that-it-needs-the-split",
        "a restart finds its place",
        POSITIONS,
        '            split=bool(document.get("split")),\n',
        "            split=False,\n",
        "tests/unit/test_stream.py "
        f"{_STRICTER}::test_a_position_after_a_split_event_is_resumed_by_a_stream_that_splits",
    ),
    Mutant(
        "a-clock-that-lags-is-lost-history",
        "nothing is repeated without need",
        BEGINNING,
        "_LOOKS = 6\n",
        "_LOOKS = 1\n",
        f"{_STRICTER}::test_a_router_whose_clock_lags_is_no_cluster_whose_time_went_back",
    ),
    Mutant(
        "a-lease-is-never-taken-over",
        "a standby takes over",
        LEASE,
        "        return now - self._since >= _STILL_S\n",
        "        return False\n",
        f"{_LEASE}::test_a_lease_whose_owner_stands_still_is_taken_and_one_that_lives_is_not",
    ),
    Mutant(
        "an-owner-that-ends-keeps-its-lease",
        "a standby takes over",
        CAPTURE,
        "                self._lease.release()\n",
        "                pass\n",
        f"{_LEASE}::test_a_standby_says_so_once_and_takes_over_after_a_kill",
    ),
]
