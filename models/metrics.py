"""The counters of the flows, on `/metrics` of the dataflow API."""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

CHUNKS_EMBEDDED = Counter("twinstream_chunks_embedded", "Chunks given to the model")
CHUNKS_REUSED = Counter("twinstream_chunks_reused", "Stored chunks kept without embedding")
CHUNKS_TRUNCATED = Counter("twinstream_chunks_truncated", "Texts longer than the model's limit")
MACHINE_FILES = Counter(
    "twinstream_machine_files", "Lock files, minified and generated files that were not embedded"
)
CHUNKS_LEFT_OUT = Counter(
    "twinstream_chunks_left_out", "Chunks beyond MAX_CHUNKS_PER_DOCUMENT, which are not stored"
)
DOCUMENTS = Counter("twinstream_documents", "Changes handled, by outcome", ["outcome"])
DEAD_LETTERS = Counter("twinstream_dead_letters", "Messages sent to the dead letters", ["stage"])
FRESHNESS = Histogram(
    "twinstream_freshness_seconds",
    "Commit in MongoDB to searchable in Qdrant",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)

COLLECTED = Counter(
    "twinstream_collected",
    "Documents of a source: fetched, written, unchanged, deleted, failed",
    ["source", "outcome"],
)
COLLECTED_AGE = Gauge(
    "twinstream_collected_age_seconds",
    "Since a source was last read to its end; since the start of the flow if it never was",
    ["source"],
)


def totals() -> str:
    """The work of this process so far, as one line for its log."""
    names = {
        "embedded": "twinstream_chunks_embedded_total",
        "reused": "twinstream_chunks_reused_total",
        "truncated": "twinstream_chunks_truncated_total",
    }
    counts = {key: REGISTRY.get_sample_value(name) or 0 for key, name in names.items()}
    counts["dead"] = sum(
        sample.value
        for metric in DEAD_LETTERS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
    return " ".join(f"{key}={count:.0f}" for key, count in counts.items())
