"""Every row of the benchmark table is measured, explained and written down in one form."""

import json

import pytest

from benchmarks.__main__ import BENCHMARKS, TARGETS
from benchmarks.plot import arrivals, costs
from benchmarks.profiles import CDC, FEATURES, shares
from benchmarks.report import RESULTS, SAMPLES, Measured, Target, entry, load
from benchmarks.timed_features import NoStore
from flows.operators.store import Store
from tests.processes import ROOT

ROWS = {
    "relay_vs_limit", "relay_vs_connection_per_message", "features_vs_encode",
    "features_vs_encode_without_store", "clean_chunk_share", "precision_speedup", "int8_speedup",
    "edit_one_paragraph", "edit_metadata", "replace_unchanged", "resnapshot_unchanged",
    "move_paragraph",
    "edit_amid_markdown", "edit_one_word_of_10_mb", "edit_rename_heading",
    "edit_long_document_writes",
    "freshness_p50_ms", "freshness_p99_ms", "backlog_memory_mb", "idle_vs_bare_bytewax",
    "idle_cpu_percent",
    "scaling_10x", "cluster_vs_encode", "startup_s", "reconcile_bytes_per_document",
    "store_upserts_vs_local_mode", "search_vs_local_mode", "search_vs_engine", "search_ms",
    "reopen_s",
    "chunks_ndcg_vs_splitter", "chunks_per_edit_vs_splitter",
    *(
        f"peer_{tool}_{what}"
        for tool in ("twinstream", "langchain", "llamaindex")
        for what in ("chunks_embedded", "stale_points", "least_visible", "left_after_delete")
    ),
}  # fmt: skip


def test_every_row_has_a_target_and_a_benchmark() -> None:
    assert set(TARGETS) == ROWS
    measured = [name for names in BENCHMARKS.values() for name in names]
    assert sorted(measured) == sorted(ROWS)


def test_every_row_is_explained() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert [name for name in ROWS if f"| `{name}` |" not in text] == []


def test_the_store_that_keeps_nothing_has_every_method_of_a_store() -> None:
    methods = [name for name in vars(Store) if not name.startswith("_")]
    assert len(methods) > 10
    assert [name for name in methods if not hasattr(NoStore, name)] == []


@pytest.mark.parametrize(
    ("target", "value", "holds", "met"),
    [
        (Target("", at_least=0.8), 0.8, True, True),
        (Target("", at_least=0.8), 0.79, True, False),
        (Target("ms", at_most=60), 60, True, True),
        (Target("ms", at_most=60), 61, True, False),
        (Target("", at_least=1.9), 2.5, False, False),
        (Target("s"), 9, True, None),
    ],
)
def test_a_target_is_met_only_as_written(
    target: Target, value: float, holds: bool, met: bool | None
) -> None:
    assert entry("row", target, Measured(value, holds=holds))["met"] is met


def test_results_have_one_form() -> None:
    written = json.loads(RESULTS.read_text())
    assert written["machine"]["cores"]
    names = [row["name"] for row in written["rows"]]
    assert len(names) == len(set(names))
    assert set(names) <= ROWS
    for row in written["rows"]:
        assert row["target"] == str(TARGETS[row["name"]])
        assert row["unit"] == TARGETS[row["name"]].unit
        again = Measured(row["value"], holds=row["met"] is not False)
        assert row["met"] in (TARGETS[row["name"]].met_by(again), False)


def test_the_plot_of_the_committed_results_has_no_empty_panel() -> None:
    rows = load()
    assert [cost.tool for cost in costs(rows)] == [
        "twinstream",
        "LangChain",
        "LlamaIndex",
        "LlamaIndex, cached",
    ]
    moments = arrivals(rows)
    assert moments == sorted(moments)
    assert moments[-1][1] == 1


def test_every_sample_is_drawn_and_not_only_its_quantiles() -> None:
    detail = {SAMPLES: [30.0, 10.0, 20.0, 40.0], "slowest_ms": 40.0}
    rows = {
        "freshness_p50_ms": {"value": 25.0, "detail": detail},
        "freshness_p99_ms": {"value": 40.0, "detail": detail},
    }
    assert arrivals(rows) == [(10.0, 0.25), (20.0, 0.5), (30.0, 0.75), (40.0, 1.0)]


def test_a_profile_looks_for_files_that_are_there() -> None:
    product = {
        str(file.relative_to(ROOT))
        for top in ("connectors", "flows", "models")
        for file in (ROOT / top).rglob("*.py")
    }
    pieces = [piece for steps in (CDC, FEATURES) for some in steps.values() for piece in some]
    ours = [piece for piece in pieces if piece.startswith(("connectors", "flows", "models", "op"))]
    assert len(ours) > 8
    assert [piece for piece in ours if not any(piece in file for file in product)] == []


def test_a_profile_counts_a_sample_for_the_innermost_step() -> None:
    samples = "\n".join(
        [
            "run (run.py:355);submit (connectors/rabbitmq/publisher.py:5) 3",
            "run (run.py:355);step (operators/encode.py:2);_relaxed_json (models/events.py:150) 5",
            "run (run.py:355) 1",
            "sleep (elsewhere.py:1) 1",
        ]
    )
    assert shares(samples, CDC) == {"JSON": 0.5, "broker": 0.3, "Bytewax": 0.1, "all else": 0.1}
