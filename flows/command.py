"""How a command runs: what goes wrong is one line, and Ctrl-C ends it."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from bytewax.errors import BytewaxRuntimeError

from flows.logs import complain, escape_unencodable
from models.dead_letters import describe
from models.errors import ConfigurationError, TwinstreamError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STDOUT: Final = 1
_STDERR: Final = 2

log = logging.getLogger("flows")


class _Interrupted(KeyboardInterrupt):
    """A signal asks the command to end."""

    def __init__(self, number: int, stderr: int) -> None:
        self.number = number
        self.stderr = stderr
        """Where standard error led to before."""


def run_command(name: str, command: Callable[[], int]) -> int:
    """Run a command in the main thread.

    An error, or a signal, is one line on standard error. A second signal ends the process at once.

    :returns: the exit code: that of `command`, 1 after an error, 128 + n after signal n
    """
    escape_unencodable()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BaseException as error:  # noqa: BLE001 (a dataflow wraps what a signal raises, too)
        return _explained(name, error)


def without_options(program: str, description: str, exit_codes: str) -> None:
    """Show `--help` of a command that has no options, and refuse every other argument."""
    argparse.ArgumentParser(
        prog=f"python -m {program}", description=description, epilog=exit_codes
    ).parse_args()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    # An exception that crosses Bytewax's engine is a panic to it, and panics are printed.
    stderr = os.dup(_STDERR)
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
    raise _Interrupted(number, stderr)


def _explained(name: str, error: BaseException) -> int:
    """Print the one line of an error; the exit code."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, _Interrupted):
            os.dup2(cause.stderr, _STDERR)
            with suppress(OSError):  # the terminal may be closed
                complain(f"{name}: interrupted")
            return 128 + cause.number
        if isinstance(cause, BrokenPipeError):  # nobody reads on, as after `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
            return 128 + signal.SIGPIPE
        if isinstance(cause, SystemExit):
            raise cause
    ours = next((cause for cause in causes if isinstance(cause, TwinstreamError)), None)
    if isinstance(ours, ConfigurationError):
        complain(f"configuration error: {ours}")
    else:
        complain(f"{name}: {ours or describe(_unwrapped(error))}")
        log.debug("%s has failed", name, exc_info=error)
    return 1


def _unwrapped(error: BaseException) -> BaseException:
    """The error that a step of a dataflow has raised."""
    while isinstance(error, BytewaxRuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the first cause last."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain
