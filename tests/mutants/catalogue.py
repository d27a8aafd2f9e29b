"""The sabotages. Each breaks one promise of `docs/design.md`, and names the tests that claim it."""

from tests.mutants.mutant import Mutant

INDEX = "flows/operators/index.py"
WRITE = "flows/operators/write.py"
PLAN = "flows/operators/plan.py"
STORE = "connectors/qdrant/store.py"

_ORDER = "tests/unit/test_index.py tests/unit/test_write_order.py"

WRITE_ORDER = [
    Mutant(
        "record-before-chunk-deletions",
        "order of writes",
        WRITE,
        "        store.delete_chunks([*gone, *leftovers])  # F3\n"
        "        store.refresh_records(refreshes)  # F4\n"
        "        store.upsert_records(upserts)  # F5\n",
        "        store.refresh_records(refreshes)  # F4\n"
        "        store.upsert_records(upserts)  # F5\n"
        "        store.delete_chunks([*gone, *leftovers])  # F3\n",
        _ORDER,
    ),
    Mutant(
        "tombstone-last",
        "order of writes",
        WRITE,
        "        store.bury(removals)  # F1\n"
        "        store.update_chunks(upserts)  # F2\n"
        "        store.delete_chunks([*gone, *leftovers])  # F3\n"
        "        store.refresh_records(refreshes)  # F4\n"
        "        store.upsert_records(upserts)  # F5\n"
        "        store.delete_records([plan_.key for plan_ in removals])  # F6\n",
        "        store.update_chunks(upserts)  # F2\n"
        "        store.delete_chunks([*gone, *leftovers])  # F3\n"
        "        store.refresh_records(refreshes)  # F4\n"
        "        store.upsert_records(upserts)  # F5\n"
        "        store.delete_records([plan_.key for plan_ in removals])  # F6\n"
        "        store.bury(removals)  # F1\n",
        _ORDER,
    ),
    Mutant(
        "record-before-new-chunks",
        "order of writes",
        WRITE,
        "        self._embed_and_upsert(plans.values())  # W2\n",
        "        self._store.upsert_records([p for p in plans.values() if isinstance(p, UpsertPlan)])\n"
        "        self._embed_and_upsert(plans.values())  # W2\n",
        _ORDER,
    ),
    Mutant(
        "chunks-deleted-before-new-ones",
        "no empty window",
        WRITE,
        "        self._embed_and_upsert(plans.values())  # W2\n",
        "        self._store.delete_chunks(\n"
        "            [(p.key, i) for p in plans.values() if isinstance(p, UpsertPlan) for i in p.gone]\n"
        "        )\n"
        "        self._embed_and_upsert(plans.values())  # W2\n",
        _ORDER,
    ),
    Mutant(
        "drop-removes-before-its-fence",
        "order of writes",
        INDEX,
        "            self._store.fence_type(drop.key.type, drop.event.version)\n",
        "",
        "tests/unit/test_index.py tests/unit/test_order.py tests/unit/test_write_order.py",
    ),
    Mutant(
        "removed-records-stay",
        "order of writes",
        WRITE,
        "        store.delete_records([plan_.key for plan_ in removals])  # F6\n",
        "",
        _ORDER,
    ),
    Mutant(
        "no-tombstone",
        "a deleted document stays deleted",
        WRITE,
        "        store.bury(removals)  # F1\n",
        "",
        _ORDER,
    ),
    Mutant(
        "gone-chunks-stay",
        "a repetition leaves no duplicate",
        WRITE,
        "        store.delete_chunks([*gone, *leftovers])  # F3\n",
        "        store.delete_chunks([*leftovers])  # F3\n",
        _ORDER,
    ),
    Mutant(
        "leftovers-of-half-written-changes-stay",
        "a repetition leaves no duplicate",
        WRITE,
        "        store.delete_chunks([*gone, *leftovers])  # F3\n",
        "        store.delete_chunks([*gone])  # F3\n",
        "tests/unit/test_index.py tests/chaos/test_histories.py",
    ),
    Mutant(
        "metadata-of-kept-chunks-not-written",
        "in sync means equal to a fresh sync",
        WRITE,
        "        store.update_chunks(upserts)  # F2\n",
        "",
        "tests/unit/test_index.py tests/unit/test_fresh.py",
    ),
    Mutant(
        "refreshed-records-keep-their-version",
        "an older change never overwrites a newer one",
        WRITE,
        "        store.refresh_records(refreshes)  # F4\n",
        "",
        _ORDER,
    ),
    Mutant(
        "writes-do-not-wait",
        "order of writes",
        "connectors/qdrant/patient.py",
        "client.upsert(collection, part, wait=True)",
        "client.upsert(collection, part, wait=False)",
        "tests/unit/test_other_models.py tests/integration/test_qdrant_server.py",
    ),
]

FENCE = [
    Mutant(
        "no-version-fence",
        "an older change never overwrites a newer one",
        PLAN,
        "    if version < stored.version:\n        return None\n",
        "",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "equal-versions-do-not-pass",
        "nothing is lost",
        PLAN,
        "    if version < stored.version:\n",
        "    if version <= stored.version:\n",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "ordinal-does-not-count",
        "an older change never overwrites a newer one",
        PLAN,
        "    if version < stored.version:\n",
        "    if version.time < stored.version.time:\n",
        "tests/unit/test_order.py",
    ),
    Mutant(
        "tombstones-do-not-fence",
        "a deleted document stays deleted",
        STORE,
        "                    version_in(tombstones.get(record_id(*key))),\n",
        "",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "drops-do-not-fence",
        "a deleted document stays deleted",
        STORE,
        "                    dropped,\n                )",
        "                )",
        "tests/unit/test_index.py tests/unit/test_order.py",
    ),
    Mutant(
        "an-older-drop-lowers-the-fence",
        "a deleted document stays deleted",
        STORE,
        "max(known, version)",
        "version",
        "tests/unit/test_index.py tests/unit/test_order.py tests/chaos/test_histories.py",
    ),
    Mutant(
        "a-drop-takes-newer-documents",
        "nothing is lost",
        STORE,
        "            if version_in(payload) <= older_than:\n",
        "            if True:\n",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "a-drop-spares-its-own-version",
        "a deleted document stays deleted",
        STORE,
        "            if version_in(payload) <= older_than:\n",
        "            if version_in(payload) < older_than:\n",
        "tests/unit/test_index.py tests/unit/test_order.py",
    ),
    Mutant(
        "collapse-takes-the-first-of-equals",
        "an older change never overwrites a newer one",
        PLAN,
        "        if other is None or change.event.version >= other.event.version:\n",
        "        if other is None or change.event.version > other.event.version:\n",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "collapse-forgets-the-version-of-an-unfenced-change",
        "nothing is lost",
        PLAN,
        "            event = change.event._replace(version=other.event.version)\n",
        "            event = change.event\n",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "overtaken-changes-are-written",
        "an older change never overwrites a newer one",
        WRITE,
        "            overtaken = self._changed(plans, stored)  # W3\n",
        "            pass\n",
        "tests/unit/test_index.py",
    ),
    Mutant(
        "a-change-passes-a-drop",
        "a deleted document stays deleted",
        INDEX,
        "        if run:\n            yield run\n        yield change\n        run = []\n",
        "        yield change\n",
        "tests/unit/test_index.py tests/chaos/test_histories.py",
    ),
]

REDELIVERY = [
    Mutant(
        "redelivered-changes-believe-the-record",
        "a repetition leaves no duplicate",
        INDEX,
        "if c.delivery.redelivered or c.event.op in _MENDING",
        "if c.event.op in _MENDING",
        "tests/unit/test_index.py tests/chaos/test_histories.py",
    ),
    Mutant(
        "repairs-believe-the-record",
        "reconciliation repairs what differs",
        INDEX,
        "if c.delivery.redelivered or c.event.op in _MENDING",
        "if c.delivery.redelivered",
        "tests/unit/test_fresh.py tests/unit/test_index.py",
    ),
    Mutant(
        "listed-chunks-are-not-checked-by-hash",
        "reconciliation repairs what differs",
        STORE,
        '                chunks[Key(type_, payload["entry_id"])][id_] = without_text(payload)\n',
        '                payload.pop("content", None)\n'
        '                chunks[Key(type_, payload["entry_id"])][id_] = payload\n',
        "tests/unit/test_fresh.py tests/unit/test_index.py",
    ),
    Mutant(
        "chunks-of-another-model-are-kept",
        "in sync means equal to a fresh sync",
        PLAN,
        '_VECTOR_HANGS_ON = {"chunk_hash", "model"}',
        '_VECTOR_HANGS_ON = {"chunk_hash"}',
        "tests/unit/test_index.py",
    ),
    Mutant(
        "repairs-of-what-looks-the-same-only-refresh",
        "reconciliation repairs what differs",
        PLAN,
        '    if same and change.event.op != "repair":\n',
        "    if same:\n",
        "tests/unit/test_fresh.py tests/unit/test_index.py",
    ),
]

POISON = [
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
        "flows/operators/prepare.py",
        "    return None if change.event.foreign else Removal(change.delivery, change.event)\n",
        "    return Removal(change.delivery, change.event)\n",
        "tests/unit/test_flows.py tests/unit/test_order.py",
    ),
    Mutant(
        "dead-versions-leave-the-older-one",
        "in sync means equal to a fresh sync",
        "flows/operators/prepare.py",
        "    return None if change.event.foreign else Removal(change.delivery, change.event)\n",
        "    return None\n",
        "tests/unit/test_flows.py",
    ),
    Mutant(
        "dead-letters-lose-their-body",
        "a dead letter has its body byte for byte",
        "models/dead_letters.py",
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
]

CAPTURE = [
    Mutant(
        "v0-not-stored-first",
        "snapshot then stream without a gap",
        "connectors/mongodb/beginning.py",
        "        position = Position(StreamPosition(now, time=now), scans)\n"
        "        checkpoints.store(position)\n",
        "        position = Position(StreamPosition(now, time=now), scans)\n",
        "tests/integration/test_mongodb.py",
    ),
    Mutant(
        "snapshots-begin-at-their-first-row",
        "snapshot then stream without a gap",
        "connectors/mongodb/beginning.py",
        "        if stored is not None and (stored.scans or not again):\n",
        "        if stored is not None and not stored.scans and not again:\n",
        "tests/integration/test_mongodb.py",
    ),
    Mutant(
        "an-owner-that-lost-its-lease-moves-the-position",
        "one owner moves the position",
        "connectors/mongodb/lease.py",
        '        return {"_id": self._name, "owner.id": self._owner.id}\n',
        '        return {"_id": self._name}\n',
        "tests/integration/test_lease.py",
    ),
    Mutant(
        "a-standby-takes-a-lease-that-lives",
        "one owner moves the position",
        "connectors/mongodb/lease.py",
        "        return now - self._since >= _STILL_S\n",
        "        return True\n",
        "tests/integration/test_lease.py",
    ),
    Mutant(
        "one-checkpoint-for-all-pipelines-of-a-database",
        "pipelines do not touch each other",
        "connectors/mongodb/checkpoints.py",
        '    parts = (quote(part, safe="") for part in (database, virtual_host, queue))\n',
        '    parts = (quote(part, safe="") for part in (database,))\n',
        "tests/integration/test_lease.py",
    ),
    Mutant(
        "lost-history-goes-on-from-now",
        "nothing is lost",
        "connectors/mongodb/beginning.py",
        '        log.warning("history is lost, reading everything again: %s", error)\n'
        "        return self._begin_snapshot(checkpoints)\n",
        "        now = self._now().committed\n"
        "        return Position(StreamPosition(_after(now), time=now))\n",
        "tests/integration/test_mongodb.py",
    ),
    Mutant(
        "renamed-collections-are-not-scanned",
        "nothing is lost",
        "connectors/mongodb/reader.py",
        '        return (*left, Scan(name, event["clusterTime"]))\n',
        "        return scans\n",
        "tests/integration/test_mongodb.py tests/integration/test_histories_live.py",
    ),
    Mutant(
        "a-dead-thread-behind-a-live-flow",
        "a dead thread ends its flow",
        "connectors/thread.py",
        "        if not self._thread.is_alive() and self._failure is None:\n"
        '            self._failure = RuntimeError("it has ended by itself")\n',
        "",
        "tests/unit/test_thread.py",
    ),
    Mutant(
        "a-thread-that-ends-quietly-is-fine",
        "a dead thread ends its flow",
        "connectors/thread.py",
        "        if not self.closing:\n"
        '            self._failure = RuntimeError("it has ended by itself")\n',
        "",
        "tests/unit/test_thread.py",
    ),
    Mutant(
        "a-replaced-position-is-forgotten",
        "nothing is repeated without need",
        "connectors/mongodb/handover.py",
        "            if self.to_store is position:\n                self.to_store = None\n",
        "            self.to_store = None\n",
        "tests/unit/test_handover.py",
    ),
    Mutant(
        "an-unbounded-buffer",
        "memory is bounded",
        "connectors/mongodb/handover.py",
        "            if len(self._entries) >= MAX_ENTRIES or self._bytes >= MAX_BYTES:\n",
        "            if False:\n",
        "tests/unit/test_handover.py",
    ),
]

IDENTITY = [
    Mutant(
        "ids-by-concatenation",
        "a repetition leaves no duplicate",
        "models/identity.py",
        "    return str(uuid5(_NAMESPACE, json.dumps(parts)))\n",
        '    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))\n',
        "tests/unit/test_events.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "partitions-by-type-only",
        "changes of a document stay in order",
        "models/identity.py",
        'f"{type_}/{entry_id}".encode("utf-8", "surrogatepass")',
        'f"{type_}".encode("utf-8", "surrogatepass")',
        "tests/unit/test_events.py",
    ),
    Mutant(
        "a-document-speaks-for-another",
        "a document is what MongoDB says it is",
        "models/events.py",
        '            body["entry_id"] = entry_id\n',
        '            body.setdefault("entry_id", entry_id)\n',
        "tests/unit/test_events.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "the-uri-in-a-repr",
        "no secret in a log",
        "flows/settings.py",
        "    mongo_uri: str = field(repr=False)\n",
        "    mongo_uri: str\n",
        "tests/unit/test_settings.py tests/unit/test_environment_docs.py tests/integration/test_security.py",
    ),
    Mutant(
        "the-api-key-in-a-repr",
        "no secret in a log",
        "connectors/qdrant/client.py",
        '    api_key: str = field(default="", repr=False)\n',
        '    api_key: str = ""\n',
        "tests/unit/test_settings.py tests/integration/test_security.py",
    ),
]

MUTANTS = (*WRITE_ORDER, *FENCE, *REDELIVERY, *POISON, *CAPTURE, *IDENTITY)
