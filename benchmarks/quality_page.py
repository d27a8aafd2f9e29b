"""The section Retrieval of docs/quality.md, made of the results of `benchmarks.quality`."""

from collections.abc import Mapping
from typing import Any, Final

ALL: Final = "all sets"
TOGETHER: Final = "all sets, searched together"


def page(results: Mapping[str, Any]) -> str:
    """The section of docs/quality.md."""
    rows = {**results["sets"], ALL: results[ALL]}
    rows[TOGETHER] = results[TOGETHER]
    lines = [
        "Known items: a query is a line that its author wrote above a text, and the answer is the",
        "text without the line ([benchmarks/known_items.py](../benchmarks/known_items.py)).",
        f"{sum(results['documents'].values()):,} documents in {results['chunks']:,} chunks,",
        f"{sum(results['queries'].values())} queries; the tables are of the",
        f"{results[ALL]['queries']} that are kept out of any tuning. Model",
        f"{results['model']}, {results['machine']}, {results['date']}.",
        "`make eval` repeats it.",
        "",
    ]
    for name in ("ndcg@10", "recall@10", "mrr"):
        lines += [f"| {name} | dense | sparse | hybrid |", "|---|---:|---:|---:|"]
        for title, row in rows.items():
            cells = (str(row[name][mode]) for mode in ("dense", "sparse", "hybrid"))
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "| nDCG@10 | hybrid ÷ better of dense and sparse | hybrid ÷ dense |",
        "|---|---:|---:|",
    ]
    for title, row in rows.items():
        cells = (str(row[name]) for name in ("hybrid ÷ better", "hybrid ÷ dense"))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    if "without context" in results:
        lines += _context_lines(results["without context"])
        lines += _peer_lines(results["peers"])
    tried = ", ".join(f"{k}: {value}" for k, value in results["k, tuning half"].items())
    lines += [
        "",
        "Reciprocal rank fusion over 100 ranks, nDCG@10 of the other half, by k:",
        f"{tried}.",
        "",
        "± is half of a 95 % interval (2,000 resamples of the queries). In the rows of sets, a",
        'query searches the documents of its own set; "searched together" searches all of them.',
        "",
        "![nDCG@10 of each set, by mode, and of the defaults of other tools](quality.png)",
    ]
    return "\n".join(lines)


def _context_lines(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "The same with chunks that are embedded without their context, and what context adds:",
        "",
        "| nDCG@10 | without: dense | sparse | hybrid | with ÷ without: dense | sparse | hybrid |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for title, row in rows.items():
        told = (row["ndcg@10"], row["with ÷ without"])
        cells = [str(some[mode]) for some in told for mode in ("dense", "sparse", "hybrid")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        f"Hybrid with context ÷ dense without, {title}: {row['hybrid with ÷ dense without']}."
        for title, row in rows.items()
    ]
    return lines


def _peer_lines(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "The splitters that other tools use unless told otherwise, with the same texts, model and",
        "store, and their dense search",
        "([benchmarks/peer_splitters.py](../benchmarks/peer_splitters.py)):",
        "",
        "| | chunks | nDCG@10 | twinstream's hybrid ÷ it |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        for title in (ALL, TOGETHER):
            cells = (f"{row['chunks']:,}", *map(str, row[title].values()))
            lines.append(f"| {name}, {title} | {' | '.join(cells)} |")
    return lines
