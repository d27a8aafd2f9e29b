"""The output of the demo: steps with their time, progress, and tables."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S: Final = 10.0
_INDENT: Final = " " * 9


class Screen:
    """A terminal with moving bars, or any other output with plain lines."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.started_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started_at

    def step(self, text: str) -> None:
        """Print one line about what has just been done."""
        line = Text.assemble((f"{self.seconds:5.0f} s  ", "dim"), text)
        self.console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line below a step."""
        self.console.print(Text(_INDENT + text, "dim"), soft_wrap=True)

    def title(self, text: str) -> None:
        """Print a heading with space above."""
        self.console.print()
        self.console.print(Text(text, "bold"), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table below a heading."""
        self.console.print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Print names and values, aligned."""
        width = max(map(len, facts))
        for name, value in facts.items():
            line = Text.assemble((f"{name:<{width}}  ", "dim"), value)
            self.console.print(line, soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator["Meter"]:
        """Yield what shows how much of `total` is done; it disappears at exit."""
        if not self.console.is_terminal:
            yield _Lines(self, label, total)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield _Bar(bar, label, total)


class Meter:
    """Shows progress."""

    def show(self, done: int, detail: str = "") -> None:
        """Show that `done` of the total are done."""
        raise NotImplementedError


class _Bar(Meter):
    def __init__(self, bar: Progress, label: str, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task(f"{_INDENT[:-2]}{label}", total=total, detail="")

    def show(self, done: int, detail: str = "") -> None:
        self._bar.update(self._task, completed=done, detail=detail)


class _Lines(Meter):
    def __init__(self, screen: Screen, label: str, total: int) -> None:
        self._screen = screen
        self._label = label
        self._total = total
        self._next_at = time.monotonic() + _LINE_EVERY_S

    def show(self, done: int, detail: str = "") -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _LINE_EVERY_S
            of = f"{self._label} {done:,} of {self._total:,}"
            self._screen.note(f"{of}, {detail}" if detail else of)
