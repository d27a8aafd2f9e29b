"""`docs/benchmarks.png`, made from `results.json`: three questions that a newcomer asks.

1. What does one edit cost here, and with the tools that one would take instead?
2. How soon can a change be found?
3. How fast is each flow, against a bare loop of the same parts?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from benchmarks.place import ROOT
from benchmarks.report import SAMPLES, load

PLOT: Final = ROOT / "docs" / "benchmarks.png"

Rows = Mapping[str, Mapping[str, Any]]

_OURS: Final = "#1f6f8b"
_OTHERS: Final = "#b8bfc6"
_INK: Final = "#333333"
_LIMITS: Final = (
    ("relay_vs_limit", "flows.cdc", "the same libraries in a plain loop"),
    ("features_vs_encode", "flows.features", "the model alone on the same chunks"),
    ("cluster_vs_encode", "2 processes of it", "the model alone in 2 processes"),
)
"""Row, name of the flow, and the limit that it is measured against."""


def plot(rows: Rows) -> None:
    """Draw what `rows` hold; a panel without its rows says so."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(8.4, 7.8), dpi=110, height_ratios=[2, 3, 2])
    for panel, draw in zip(axes, (_edit, _freshness, _limits), strict=True):
        draw(panel, rows)
        panel.tick_params(labelsize=9, colors=_INK, length=0)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    figure.tight_layout(h_pad=2.2)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT)
    pyplot.close(figure)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one edit costs with one tool."""

    tool: str
    chunks: float
    """Chunks embedded for it."""
    documents: int
    """Documents that the tool has to be handed."""
    vanishes: bool
    """The document cannot be found while it is updated."""


def costs(rows: Rows) -> list[Cost]:
    """One entry for each tool and mode that keeps up with edits and deletes."""
    found = []
    for name, label, variant in (
        ("twinstream", "twinstream", None),
        ("langchain", "LangChain", None),
        ("llamaindex", "LlamaIndex", None),
        ("llamaindex", "LlamaIndex, cached", "with_embedding_cache"),
    ):
        cost = rows.get(f"peer_{name}_chunks_embedded")
        visible = rows.get(f"peer_{name}_least_visible")
        if cost is None or visible is None or (variant and variant not in cost["detail"]):
            continue
        chunks, least = (
            row["detail"][variant] if variant else row["value"] for row in (cost, visible)
        )
        handed = cost["detail"]["handed_at_each_sync"]
        found.append(Cost(label, float(chunks), int(handed), float(least) == 0))
    return found


def arrivals(rows: Rows) -> list[tuple[float, float]]:
    """Milliseconds and the share of posts that could be found by then, in order."""
    half, last = rows.get("freshness_p50_ms"), rows.get("freshness_p99_ms")
    if half is None or last is None:
        return []
    if samples := half["detail"].get(SAMPLES):
        ordered = sorted(samples)
        return [(ms, rank / len(ordered)) for rank, ms in enumerate(ordered, 1)]
    # Results of before the samples were kept: the three points that are known.
    slowest = half["detail"]["slowest_ms"]
    return [(half["value"], 0.5), (last["value"], 0.99), (slowest, 1.0)]


def _edit(panel: Any, rows: Rows) -> None:
    found = costs(rows)[::-1]
    _title(panel, "One paragraph is added to one of 100 documents: chunks embedded", bool(found))
    if not found:
        return
    for index, cost in enumerate(found):
        ours = cost.tool == "twinstream"
        panel.barh(index, cost.chunks, color=_OURS if ours else _OTHERS, height=0.62)
        read = "1 document" if cost.documents == 1 else f"all {cost.documents} documents"
        gone = "; the edited one is not found meanwhile" if cost.vanishes else ""
        label = f"{cost.chunks:.1f}   reads {read}{gone}"
        panel.text(cost.chunks + 0.3, index, label, va="center", fontsize=9, color=_INK)
    panel.set_yticks(range(len(found)), [cost.tool for cost in found])
    panel.set_xlim(0, max(cost.chunks for cost in found) * 2.7)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)


def _freshness(panel: Any, rows: Rows) -> None:
    found = arrivals(rows)
    _title(panel, "From insert to searchable: share of short posts that can be found", bool(found))
    if not found:
        return
    moments, shares = zip(*found, strict=True)
    if len(found) > 3:
        panel.step([0, *moments], [0, *shares], where="post", color=_OURS, linewidth=2)
    else:
        panel.plot(moments, shares, "o", color=_OURS)
    for row, name in (("freshness_p50_ms", "half"), ("freshness_p99_ms", "99 %")):
        value, share = rows[row]["value"], 0.5 if name == "half" else 0.99
        panel.axvline(value, 0, share / 1.08, color=_OTHERS, linewidth=1)
        panel.text(value, 0.03, f" {name}: {value:.0f} ms", fontsize=9, color=_INK)
    panel.set_xlim(0, max(moments) * 1.1)
    panel.set_ylim(0, 1.08)
    panel.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    panel.set_xlabel("milliseconds after the insert was sent", fontsize=9, color=_INK)


def _limits(panel: Any, rows: Rows) -> None:
    found = [(rows[row], name, limit) for row, name, limit in _LIMITS if row in rows]
    _title(panel, "Speed of each flow; 100 % is a bare loop of the same parts", bool(found))
    if not found:
        return
    for index, (row, _, limit) in enumerate(reversed(found)):
        value = float(row["value"])
        panel.barh(index, value, color=_OURS, height=0.5)
        spread(panel, row["detail"].get("rounds", ()), index)
        label = f"{100 * value:.0f} % of {limit}"
        panel.text(0.02, index, label, va="center", fontsize=9, color="white")
    panel.axvline(1, color=_INK, linewidth=1)
    panel.set_yticks(range(len(found)), [name for _, name, _ in reversed(found)])
    panel.set_xlim(0, 1.35)
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    panel.set_xlabel("dots: single rounds", fontsize=9, color=_INK)


def spread(panel: Any, rounds: Sequence[float], index: int) -> None:
    """Show single rounds as dots that do not hide each other."""
    offsets = cycle((-0.12, 0.0, 0.12))
    heights = [index + offset for offset, _ in zip(offsets, rounds, strict=False)]
    panel.plot(rounds, heights, "o", color=_INK, markersize=2.5, alpha=0.6, linestyle="none")


def _title(panel: Any, text: str, measured: bool) -> None:
    panel.set_title(text, loc="left", fontsize=11, color=_INK, fontweight="bold")
    if not measured:
        panel.text(0.5, 0.5, "not measured yet: make bench", ha="center", color=_INK)
        panel.set_axis_off()


if __name__ == "__main__":
    plot(load())
