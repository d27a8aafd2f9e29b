"""Lines for people: what commands print, and logs. None holds an order to the terminal."""

import io
import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from typing_extensions import override

from models.shown import shown, shown_as_json

_NOISY = ("pika", "httpx", "sentence_transformers", "transformers", "qdrant_client")
_FAILING = ("strict", "surrogateescape")


def escape_unencodable() -> None:
    r"""Let this program print every character, also where standard output is not UTF-8: one that it
    has no byte for is shown as Python writes it, `\u2192`. Without this the print raises.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
            stream.reconfigure(errors="backslashreplace")


def say(text: object) -> None:
    """Print one line of a command's answer."""
    print(shown(text))


def say_json(value: Any) -> None:
    """Print a command's answer as JSON."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(shown_as_json(value, ascii_only=not encoding.lower().startswith("utf")))


def complain(text: object) -> None:
    """Print one line on standard error."""
    print(shown(text), file=sys.stderr)


def complain_at_length(error: BaseException) -> None:
    """Print the traceback of an error that nobody expected."""
    for lines in traceback.format_exception(error):
        for line in lines.splitlines():
            complain(line)


def configure_logging(level: str) -> None:
    """Log to standard error, one line for each record."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class SafeFormatter(logging.Formatter):
    """One line for each record, whatever a document put into it; a traceback is indented below,
    so that no line of it can pass for a record.
    """

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return shown(super().formatMessage(record))

    @override
    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """The traceback."""
        return _indented(super().formatException(ei))

    @override
    def formatStack(self, stack_info: str) -> str:
        """The stack."""
        return _indented(stack_info)


def _indented(text: str) -> str:
    return "\n".join(f"    {shown(line)}" for line in text.split("\n"))
