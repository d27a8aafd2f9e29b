"""`docs/benchmarks.png`: each row beside its target, made from `results.json`."""

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.place import ROOT
from benchmarks.report import load

PLOT: Final = ROOT / "docs" / "benchmarks.png"


def plot(rows: Mapping[str, dict[str, Any]]) -> None:
    """Draw value ÷ target for what is to be large, target ÷ value for what is to be small."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars = [(name, *bar) for name, row in rows.items() if (bar := _bar(row)) is not None]
    if not bars:
        return
    names, lengths, labels, met = zip(*reversed(bars), strict=True)
    figure, axes = pyplot.subplots(figsize=(8, 0.36 * len(bars) + 1.1), dpi=90)
    colours = ["#2f7d5b" if good else "#b5533c" for good in met]
    axes.barh(names, [min(length, 4) for length in lengths], color=colours)
    axes.axvline(1, color="black", linewidth=1)
    for index, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        axes.text(min(length, 4) + 0.04, index, label, va="center", fontsize=8)
    axes.set_xlim(0, 5.2)
    axes.set_xlabel("how far beyond the target (the line): longer is better, cut at 4")
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT)
    pyplot.close(figure)


def _bar(row: Mapping[str, Any]) -> tuple[float, str, bool] | None:
    """Length, label, whether it is met; None for a row without a target that can be divided."""
    sign, _, number = row["target"].partition(" ")
    if sign not in (">=", "<=") or float(number) == 0:
        return None
    value, target = float(row["value"]), float(number)
    length = value / target if sign == ">=" else target / max(value, 1e-9)
    label = f"{value:g} {row['unit']}".strip() + f"  (target {sign} {number})"
    return length, label, bool(row["met"])


if __name__ == "__main__":
    plot(load())
