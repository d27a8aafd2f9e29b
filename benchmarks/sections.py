"""Pages that several commands write, each a section of its own."""

import re
from pathlib import Path


def write_section(page: Path, title: str, heading: str, text: str) -> None:
    """Replace the section below a heading, or add it; everything else stays as it is.

    :param title: of the page, if it does not exist yet
    """
    have = page.read_text() if page.exists() else f"# {title}\n"
    section = f"## {heading}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(have):
        have = pattern.sub(lambda _: f"{section}\n", have)
    else:
        have = f"{have.rstrip()}\n\n{section}"
    page.write_text(f"{have.rstrip()}\n")
