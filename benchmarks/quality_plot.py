"""docs/quality.png: what each mode finds on each set, and what other tools' defaults find."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measures import Interval

_COLOURS: Final = {"dense": "#b8bfc6", "sparse": "#8aa9b5", "hybrid": "#1f6f8b"}
_ALL: Final = "all sets"


def plot_quality(results: Mapping[str, Any], file: Path) -> None:
    """Draw nDCG@10 with its intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = {**results["sets"], _ALL: results[_ALL]}
    figure, panel = pyplot.subplots(figsize=(8.4, 3.6), dpi=110)
    names = list(rows)
    for shift, (mode, colour) in enumerate(_COLOURS.items()):
        for place, name in enumerate(names):
            _bar(panel, place + 0.25 * (shift - 1), rows[name]["ndcg@10"][mode], colour, mode)
    for name, peer in results.get("peers", {}).items():
        _bar(panel, len(names), peer[_ALL]["ndcg@10"], "#d8c9a3", "dense")
        names.append(f"{name}\n{_ALL}")
    panel.set_xticks(range(len(names)), names, fontsize=8)
    panel.set_title("nDCG@10 on known items, 95 % intervals", loc="left", fontsize=10)
    panel.legend(
        handles=[pyplot.Rectangle((0, 0), 1, 1, color=c, label=m) for m, c in _COLOURS.items()],
        fontsize=8, frameon=False, ncols=3, loc="lower right",
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _bar(panel: Any, place: float, value: Interval, colour: str, label: str) -> None:
    reach = [[value.value - value.low], [value.high - value.value]]
    panel.bar(place, value.value, 0.23, yerr=reach, color=colour, label=label, ecolor="#333333")
