"""Members and routers that have not seen everything yet."""

import time
from typing import Any

from bson import Timestamp

from tests.mongodb_proxy.wire import Ask, Document, Message

_READS = frozenset({"find", "count", "distinct", "aggregate"})
_PAGE = 500
_NOWHERE = Timestamp(2**32 - 1, 0)


class Lag:
    """Answers reads with an older state, and with an older time.

    - A read is served by a member that lags, unless it asks for the primary, or its session for
      something newer: manual, "Causal Consistency and Read and Write Concerns", and
      "Read Preference". A read with concern `majority` lags on the primary, too: it sees what is
      committed, not what is applied (manual, "Read Concern majority"), and says with
      `operationTime` how far that is: `computeOperationTime` in
      `src/mongo/db/service_entry_point_shard_role.cpp`.
    - A router answers with a clock of its own where it asks no shard: `hello`, and reads of a
      database that nobody has written to. `appendRequiredFieldsToResponse` in
      `src/mongo/s/commands/strategy.cpp`.

    :param behind: port of a server that holds the older state
    """

    def __init__(self, behind: int | None) -> None:
        self._behind = behind
        self.since = _NOWHERE
        self._skip = 0
        self._cursors: set[int] = set()
        self._known: Document = {}
        self.clock_s = 0
        """Seconds by which the clock of a router is late."""
        self.page_s = 0.0
        """Seconds that a page of a scan takes."""
        self.served = 0
        """Reads that saw the older state."""

    def begin(self, since: Timestamp, *, after_reads: int = 0) -> None:
        """Let reads see the older state only.

        :param since: the cluster time of that state
        :param after_reads: so many are served as ever first
        """
        self.since, self._skip = since, after_reads

    def __call__(self, request: Message, ask: Ask) -> Message:
        """See `Behaviour`."""
        body = request.body
        assert body is not None
        if "sort" in body or (request.command == "getMore" and body.get("batchSize") == _PAGE):
            time.sleep(self.page_s)
        if request.command in ("hello", "isMaster", "ismaster"):
            reply = ask(request)
            self._known = (reply.body or {}).get("$clusterTime", self._known)
            return self._late(request, reply)
        if request.command == "getMore" and body["getMore"] in self._cursors:
            return self._as_behind(request, ask(request, self._behind))
        if request.command in _READS and self._lags(body):
            self.served += 1
            return self._as_behind(request, ask(request, self._behind))
        reply = ask(request)
        self._known = (reply.body or {}).get("$clusterTime", self._known)
        empty = not (reply.body or {}).get("cursor", {}).get("firstBatch", [0])
        return self._late(request, reply) if request.command == "find" and empty else reply

    def _lags(self, body: Document) -> bool:
        if self.since == _NOWHERE or "$changeStream" in (body.get("pipeline") or [{}])[0]:
            return False
        concern = body.get("readConcern", {})
        mode = body.get("$readPreference", {}).get("mode", "primary")
        # a client that knows of one member only says "primaryPreferred" where it means primary
        if concern.get("level") != "majority" and mode in ("primary", "primaryPreferred"):
            return False
        if self._skip:
            self._skip -= 1
            return False
        after = concern.get("afterClusterTime")
        return after is None or bool(after <= self.since)

    def _as_behind(self, request: Message, reply: Message) -> Message:
        body = dict(reply.body or {})
        cursor: Any = body.get("cursor", {})
        if cursor.get("id"):
            self._cursors.add(cursor["id"])
        # it has heard of newer changes than it holds
        return Message.reply(
            request, {**body, "operationTime": self.since, "$clusterTime": self._known}
        )

    def _late(self, request: Message, reply: Message) -> Message:
        body = dict(reply.body or {})
        now = body.get("operationTime")
        if not self.clock_s or not isinstance(now, Timestamp):
            return reply
        late = Timestamp(now.time - self.clock_s, now.inc)
        known = {**body["$clusterTime"], "clusterTime": late}
        return Message.reply(request, {**body, "operationTime": late, "$clusterTime": known})
