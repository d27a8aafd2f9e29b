"""Notebooks: their cells in the place of the JSON that holds them."""

from collections.abc import Iterator
from typing import Any

import orjson

from flows.text.canonical import fenced


def notebook_text(text: str) -> str:
    """Return the cells of a Jupyter notebook as Markdown, code between fences, without outputs.

    A text that is no notebook is returned as it is.
    """
    try:
        notebook = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        return text
    return "\n\n".join(_written(cells, _language(notebook)))


def _written(cells: list[Any], language: str) -> Iterator[str]:
    for cell in cells:
        source = cell.get("source") if isinstance(cell, dict) else None
        lines = source if isinstance(source, list) else [source]
        text = "".join(line for line in lines if isinstance(line, str)).strip("\n")
        if text.strip():
            yield fenced(text, language) if cell.get("cell_type") == "code" else text


def _language(notebook: dict[str, Any]) -> str:
    value: Any = notebook
    for key in ("metadata", "language_info", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
