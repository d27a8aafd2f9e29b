"""What `benchmarks.scale` has measured, as figures, a page and a plot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.freshness import quantile
from benchmarks.place import ROOT
from benchmarks.report import machine


@dataclass
class Run:
    """What was measured."""

    documents: int
    chunks: int
    paragraphs: int = 10
    """Of each document; each becomes a chunk."""
    load_s: float = 0.0
    fresh: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the begin of the edits, milliseconds until an edit can be searched."""
    found: list[tuple[float, float]] = field(default_factory=list)
    """The same of searches."""
    edits: int = 0
    edits_s: float = 0.0
    reconcile: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """What the report says."""
        fresh = [ms for _, ms in self.fresh]
        found = [ms for _, ms in self.found]
        return {
            "documents": self.documents,
            "chunks": self.chunks,
            "load_chunks_per_s": round(self.chunks / self.load_s),
            "edits_per_s": round(self.edits / self.edits_s, 1),
            "edits_watched": len(fresh),
            "commit_to_searchable_p50_p99_ms": p50_p99(fresh),
            "search_p50_p99_ms": p50_p99(found),
            **self.store,
            **self.reconcile,
        }


def p50_p99(values: Sequence[float]) -> list[float]:
    """The median and the 99th percentile."""
    return [round(quantile(list(values), share), 1) for share in (0.5, 0.99)]


def plot(run: Run, file: Path) -> None:
    """Both latencies over time: median and 99th percentile of each ten seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(8.4, 5.2), dpi=110, sharex=True)
    for panel, samples, title in (
        (axes[0], run.fresh, "From commit to searchable"),
        (axes[1], run.found, "A search of all types"),
    ):
        windows: dict[int, list[float]] = {}
        for second, ms in samples:
            windows.setdefault(int(second // 10), []).append(ms)
        times = [10 * window / 60 for window in sorted(windows)]
        for share, label in ((0.5, "median"), (0.99, "99th percentile")):
            values = [quantile(windows[window], share) for window in sorted(windows)]
            panel.plot(times, values, label=label)
        panel.set_title(f"{title}, ms", loc="left", fontsize=10)
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=8, frameon=False)
    axes[1].set_xlabel("minutes of edits", fontsize=9)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def write(run: Run, command: str) -> None:
    """docs/scale.md and docs/scale.png."""
    rows = "".join(
        f"| {name.replace('_', ' ')} | {_cell(value)} |\n" for name, value in run.figures().items()
    )
    where = machine()
    machine_ = f"{where['cores']} cores of an {where['processor']}"
    text = f"""# At a size

Made by `{command}` on {machine_}, which both flows, the embedded store, MongoDB's stand-in,
RabbitMQ and what measures have shared. Vectors have 384 components and are made of hashes, since
everything but the model is asked here. [benchmarks/scale.py](../benchmarks/scale.py) says what each
step does.

| | |
|---|---|
{rows}
![Latency from commit to searchable, and of a search, over the minutes of edits](scale.png)
"""
    (ROOT / "docs" / "scale.md").write_text(text)
    plot(run, ROOT / "docs" / "scale.png")


def _cell(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")
