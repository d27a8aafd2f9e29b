"""`make bench`: measures every row, prints the table, writes `results.json`, the plot, and the
numbers in README.md and docs/benchmarks.md.

python -m benchmarks            all rows
python -m benchmarks NAME ...   the rows named, and those measured together with them; a NAME may
                                also be a function that measures several, like `peers`
"""

import argparse
import sys
import time
import traceback
from typing import Final

from benchmarks.chunking import chunking
from benchmarks.edits import edits
from benchmarks.features import cluster, features, startup
from benchmarks.freshness import freshness, idle_cpu
from benchmarks.long_document import long_document
from benchmarks.memory import memory
from benchmarks.peers import peers
from benchmarks.place import Servers
from benchmarks.plot import plot
from benchmarks.precision import int8, precision
from benchmarks.reconciliation import reconciliation
from benchmarks.relay import relay
from benchmarks.report import Benchmark, Target, entry, load, save, show
from benchmarks.scaling import scaling
from benchmarks.store import reopening, searches, store
from benchmarks.words import write
from flows.logs import escape_unencodable

TARGETS: Final = {
    "relay_vs_limit": Target("", at_least=0.8),
    "relay_vs_connection_per_message": Target("", at_least=60),
    "features_vs_encode": Target("", at_least=0.97),
    "features_vs_encode_without_store": Target("", at_least=0.97),
    "clean_chunk_share": Target("%", at_most=8),
    # Where the processor is not faster at anything else, automatic precision is float32: 1.0.
    "precision_speedup": Target("", at_least=1.9),
    "int8_speedup": Target("", at_least=2),
    "edit_one_paragraph": Target("chunks", at_most=3),
    "edit_metadata": Target("chunks", at_most=0),
    "replace_unchanged": Target("chunks", at_most=0),
    "resnapshot_unchanged": Target("chunks", at_most=0),
    "move_paragraph": Target("chunks", at_most=4),
    "edit_amid_markdown": Target("chunks", at_most=3),
    "edit_one_word_of_10_mb": Target("chunks", at_most=2),
    "edit_rename_heading": Target("chunks"),
    "edit_long_document_writes": Target("points", at_most=8),
    "freshness_p50_ms": Target("ms", at_most=30),
    "freshness_p99_ms": Target("ms", at_most=60),
    "backlog_memory_mb": Target("MB", at_most=150),
    "idle_vs_bare_bytewax": Target("", at_most=1.25),
    "idle_cpu_percent": Target("%"),
    "scaling_10x": Target("", at_most=1.15),
    "cluster_vs_encode": Target("", at_least=0.9),
    "reconcile_bytes_per_document": Target("bytes", at_most=400),
    "store_upserts_vs_local_mode": Target("", at_least=10),
    "search_vs_local_mode": Target("", at_least=50),
    "search_vs_engine": Target("", at_most=4),
    "search_ms": Target("ms"),
    "reopen_s": Target("s", at_most=5),
    "startup_s": Target("s"),
    "chunks_ndcg_vs_splitter": Target(""),
    "chunks_per_edit_vs_splitter": Target(""),
    "peer_twinstream_chunks_embedded": Target("chunks"),
    "peer_langchain_chunks_embedded": Target("chunks"),
    "peer_llamaindex_chunks_embedded": Target("chunks"),
    "peer_twinstream_stale_points": Target("points"),
    "peer_langchain_stale_points": Target("points"),
    "peer_llamaindex_stale_points": Target("points"),
    "peer_twinstream_least_visible": Target("points"),
    "peer_langchain_least_visible": Target("points"),
    "peer_llamaindex_least_visible": Target("points"),
    "peer_twinstream_left_after_delete": Target("points"),
    "peer_langchain_left_after_delete": Target("points"),
    "peer_llamaindex_left_after_delete": Target("points"),
}
"""Every row of the table, in its order."""

BENCHMARKS: Final[dict[Benchmark, tuple[str, ...]]] = {
    relay: ("relay_vs_limit", "relay_vs_connection_per_message"),
    features: (
        "features_vs_encode", "features_vs_encode_without_store", "clean_chunk_share",
    ),
    precision: ("precision_speedup",),
    int8: ("int8_speedup",),
    edits: (
        "edit_one_paragraph", "edit_metadata", "replace_unchanged", "resnapshot_unchanged",
        "move_paragraph", "edit_amid_markdown", "edit_one_word_of_10_mb", "edit_rename_heading",
    ),
    long_document: ("edit_long_document_writes",),
    freshness: ("freshness_p50_ms", "freshness_p99_ms"),
    memory: ("backlog_memory_mb",),
    idle_cpu: ("idle_vs_bare_bytewax", "idle_cpu_percent"),
    scaling: ("scaling_10x",),
    cluster: ("cluster_vs_encode",),
    reconciliation: ("reconcile_bytes_per_document",),
    store: ("store_upserts_vs_local_mode", "search_vs_local_mode", "search_vs_engine"),
    searches: ("search_ms",),
    reopening: ("reopen_s",),
    startup: ("startup_s",),
    chunking: ("chunks_ndcg_vs_splitter", "chunks_per_edit_vs_splitter"),
    peers: tuple(name for name in TARGETS if name.startswith("peer_")),
}  # fmt: skip
"""What measures which rows."""


def main(names: list[str]) -> int:
    """Exit status 0 if everything could be measured, whether or not the targets are met."""
    escape_unencodable()
    groups = {benchmark.__name__ for benchmark in BENCHMARKS}
    if unknown := set(names) - TARGETS.keys() - groups:
        print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
        return 2
    rows = load()
    done: list[str] = []
    failed = False
    with Servers() as servers:
        for benchmark, measures in BENCHMARKS.items():
            if names and not set(names) & {benchmark.__name__, *measures}:
                continue
            begun = time.monotonic()
            try:
                found = benchmark(servers)
            except Exception:  # noqa: BLE001 (one row's failure must not cost the others)
                traceback.print_exc()
                failed = True
                continue
            rows = load()  # another run may have measured other rows meanwhile
            for name, measured in found.items():
                rows[name] = entry(name, TARGETS[name], measured)
                done.append(name)
                print(f"{name}: {rows[name]['value']:g}", flush=True)
            print(f"  ({time.monotonic() - begun:.0f} s)", flush=True)
            save(rows, list(TARGETS))
    show(rows, [name for name in TARGETS if name in done])
    plot(rows)
    write()
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure every row, or the rows named, and write them to the documents.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(TARGETS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_options().rows))
