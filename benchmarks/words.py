"""The words about the last run: sentences in README.md, rows in docs/benchmarks.md.

`make bench` writes both; `python -m benchmarks.words` writes them again from `results.json`.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.report import RESULTS

Rows = Mapping[str, Mapping[str, Any]]

_ROOT: Final = Path(__file__).resolve().parent.parent
_BETWEEN: Final = re.compile(r"(?<=<!-- numbers -->\n).*?(?=\n<!-- /numbers -->)", re.DOTALL)
_NO_COST: Final = ("edit_metadata", "replace_unchanged", "resnapshot_unchanged")


def sentences(rows: Rows) -> str:
    """The numbers that a newcomer asks for, one sentence each."""
    inserted, relay = rows["edit_one_paragraph"]["detail"], rows["relay_vs_limit"]
    features, fresh = rows["features_vs_encode"], rows["freshness_p50_ms"]
    ours, langchain, llamaindex = (
        rows[f"peer_{tool}_chunks_embedded"] for tool in ("twinstream", "langchain", "llamaindex")
    )
    nothing = [rows[name]["value"] for name in _NO_COST]
    return _bullets(
        f"A paragraph inserted into an article of {inserted['prose_chunks']} chunks costs "
        f"{inserted['prose']:.1f} embedded chunks, and a function inserted into "
        f"{inserted['code_chunks']} chunks of code {inserted['code']:.1f} "
        f"(means of {inserted['edits']} edits).",
        "A change of metadata alone, a document replaced by itself, and a second snapshot embed "
        + ("no chunk." if not any(nothing) else f"{_list(nothing)} chunks."),
        f"For one edit among {langchain['detail']['handed_at_each_sync']} documents, LangChain's "
        f"`index()` embeds {langchain['value']:.1f} chunks and LlamaIndex's `IngestionPipeline` "
        f"{llamaindex['value']:.1f}, and both have to be handed all documents; twinstream embeds "
        f"{ours['value']:.1f}, and reads the one that changed.",
        f"A short post can be found {fresh['value']:.0f} ms after its insert is sent (median of "
        f"{fresh['detail']['posts']}; 99th percentile {rows['freshness_p99_ms']['value']:.0f} ms).",
        f"`flows.cdc` carries {relay['detail']['flow_per_s']:,} messages of 1.5 kB a second: "
        f"{_percent(relay)} of the same libraries in a plain loop, and "
        f"{rows['relay_vs_connection_per_message']['value']:.0f} times the rate of one connection "
        "for each message.",
        f"`flows.features` embeds {features['detail']['flow_chunks_per_s']:.0f} chunks a second, "
        f"writes included: {_percent(features)} of the model alone on the same chunks.",
    )


def table(rows: Rows) -> str:
    """Every row of the last run."""
    lines = ["| row | measured | target | met |", "|---|---:|---:|---|"]
    for name, row in rows.items():
        value = f"{row['value']:,.4g} {row['unit']}".strip()
        target = "" if row["target"] == "report" else row["target"]
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        lines.append(f"| `{name}` | {value} | {target} | {met} |")
    return "\n".join(lines)


def place(machine: Mapping[str, Any], rows: Rows) -> str:
    """When and where the rows were measured."""
    days = sorted({datetime.fromisoformat(row["measured_at"]).date() for row in rows.values()})
    when = " to ".join(f"{day:%-d %B %Y}" for day in dict.fromkeys((days[0], days[-1])))
    return (
        f"Measured by `make bench` on {when} with Python {machine['python']}, on "
        f"{machine['cores']} cores of an {machine['processor'].strip()} shared with the "
        "MongoDB and RabbitMQ servers."
    )


def texts() -> dict[Path, str]:
    """What is to stand between the markers of each document."""
    found = json.loads(RESULTS.read_text())
    rows = {row["name"]: row for row in found["rows"]}
    where = place(found["machine"], rows)
    return {
        _ROOT / "README.md": f"{sentences(rows)}\n\n{where}",
        _ROOT / "docs" / "benchmarks.md": f"{where}\n\n{table(rows)}",
    }


def stands(document: Path) -> list[str]:
    """What stands between the markers of a document."""
    return _BETWEEN.findall(document.read_text())


def write() -> None:
    """Put the numbers of the last run into the documents."""
    for document, text in texts().items():
        document.write_text(_BETWEEN.sub(lambda _, text=text: text, document.read_text()))


def _bullets(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:-1]) + f" and {values[-1]:g}"


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['value']:.0f} %"


if __name__ == "__main__":
    write()
