"""Sabotages of the order in which a batch is written, and of what a search finds meanwhile."""

from tests.mutants.mutant import Mutant

INDEX = "flows/operators/index.py"
WRITE = "flows/operators/write.py"
PATIENT = "connectors/qdrant/patient.py"
RETRIEVAL = "retrieval/client.py"
SCHEMA = "connectors/qdrant/schema.py"

_CRASHES = "tests/unit/test_write_crashes.py tests/unit/test_index.py"
_GUARDS = "tests/integration/test_store_guards.py"

WRITES = [
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
        _CRASHES,
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
        _CRASHES,
    ),
    Mutant(
        "record-before-new-chunks",
        "order of writes",
        WRITE,
        "        self._embed_and_upsert(plans.values())  # W2\n",
        "        self._store.upsert_records([p for p in plans.values() if isinstance(p, UpsertPlan)])\n"
        "        self._embed_and_upsert(plans.values())  # W2\n",
        _CRASHES,
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
        _CRASHES,
    ),
    Mutant(
        "a-drop-without-a-fence",
        "order of writes",
        INDEX,
        "            self._store.fence_type(drop.key.type, drop.event.version)\n",
        "",
        _CRASHES,
    ),
    Mutant(
        "a-drop-fences-after-its-removals",
        "order of writes",
        INDEX,
        "            self._store.fence_type(drop.key.type, drop.event.version)\n"
        "            removals = iter(list(self._removals(drop)))\n"
        "            refusals = []\n"
        "            while some := list(islice(removals, REMOVALS_PER_WRITE)):\n"
        "                refusals += self._remove(some)\n",
        "            removals = iter(list(self._removals(drop)))\n"
        "            refusals = []\n"
        "            while some := list(islice(removals, REMOVALS_PER_WRITE)):\n"
        "                refusals += self._remove(some)\n"
        "            self._store.fence_type(drop.key.type, drop.event.version)\n",
        _CRASHES,
    ),
    Mutant(
        "removed-records-stay",
        "order of writes",
        WRITE,
        "        store.delete_records([plan_.key for plan_ in removals])  # F6\n",
        "",
        _CRASHES,
    ),
    Mutant(
        "no-tombstone",
        "a deleted document stays deleted",
        WRITE,
        "        store.bury(removals)  # F1\n",
        "",
        _CRASHES,
    ),
    Mutant(
        "gone-chunks-stay",
        "a repetition leaves no duplicate",
        WRITE,
        "        store.delete_chunks([*gone, *leftovers])  # F3\n",
        "        store.delete_chunks([*leftovers])  # F3\n",
        _CRASHES,
    ),
    Mutant(
        "leftovers-of-half-written-changes-stay",
        "a repetition leaves no duplicate",
        WRITE,
        "        store.delete_chunks([*gone, *leftovers])  # F3\n",
        "        store.delete_chunks([*gone])  # F3\n",
        "tests/unit/test_index.py "
        "tests/chaos/test_histories.py::test_killed_before_a_drop_that_comes_by_another_queue",
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
        _CRASHES,
    ),
    Mutant(
        "writes-do-not-wait",
        "order of writes",
        PATIENT,
        "client.upsert(collection, part, wait=True)",
        "client.upsert(collection, part, wait=False)",
        _CRASHES,
    ),
    Mutant(
        "old-chunks-go-with-the-first-new-ones",
        "no empty window",
        WRITE,
        "            self._store.upsert_chunks(piece, self._embed(texts), list(map(chunk_weights, texts)))\n",
        "            self._store.upsert_chunks(piece, self._embed(texts), list(map(chunk_weights, texts)))\n"
        "            self._store.delete_chunks(\n"
        "                [(p.key, i) for p in plans if isinstance(p, UpsertPlan) for i in p.gone]\n"
        "            )\n",
        "tests/unit/test_write_order.py",
    ),
    Mutant(
        "a-flow-does-not-notice-an-upgrade",
        "every chunk has its sparse vector",
        "connectors/qdrant/store.py",
        "            if not has_sparse(info):\n                return False\n",
        "            if not has_sparse(info):\n                self._is_weighted = lambda _: False\n"
        "                return False\n",
        "tests/unit/test_upgrade.py",
    ),
    Mutant(
        "an-upgrade-looks-once",
        "every chunk has its sparse vector",
        "connectors/qdrant/sparse.py",
        "    while added := _fill(client, collection):\n        total += added\n",
        "    if not total:\n        total += _fill(client, collection)\n",
        "tests/unit/test_upgrade.py",
    ),
    Mutant(
        "a-copy-takes-vectors-that-were-removed",
        "every chunk has its sparse vector",
        "connectors/qdrant/embedded/engine.py",
        "        if name in names\n",
        "",
        "tests/integration/test_upgrade.py",
    ),
    Mutant(
        "a-chunk-stores-its-place",
        "an edit costs what it changes",
        "models/fresh.py",
        '                "chunk_hash": chunk.chunk_hash,\n            }\n'
        "            for chunk in chunks\n",
        '                "chunk_hash": chunk.chunk_hash,\n                "position": place,\n'
        "            }\n            for place, chunk in enumerate(chunks)\n",
        "tests/unit/test_long_edits.py",
    ),
    Mutant(
        "types-are-asked-one-after-the-other",
        "a search costs one round trip",
        RETRIEVAL,
        "list(self._pool.map(unless_missing, types))",
        "list(map(unless_missing, types))",
        "tests/integration/test_search.py",
    ),
    Mutant(
        "a-search-looks-for-its-collections-first",
        "a search costs one round trip",
        RETRIEVAL,
        "        collection = self._names.vectors(type_)\n",
        "        collection = self._names.vectors(type_)\n"
        "        self._store.collection_exists(collection)\n",
        "tests/unit/test_retrieval.py",
    ),
    Mutant(
        "searches-filter-by-a-field-without-an-index",
        "a store in strict mode answers",
        SCHEMA,
        '    "model": q.PayloadSchemaType.KEYWORD,\n',
        "",
        f"{_GUARDS}::test_strict_mode_refuses_no_filter_and_every_index_serves_one",
    ),
    Mutant(
        "pruning-filters-by-a-field-without-an-index",
        "a store in strict mode answers",
        SCHEMA,
        '    "deleted_at": q.PayloadSchemaType.FLOAT,\n',
        "",
        f"{_GUARDS}::test_strict_mode_refuses_no_filter_and_every_index_serves_one",
    ),
]
