"""An orderly end for programs that have started others."""

import signal
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asks this program to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def interrupt_on_signals() -> None:
    """Raise `Interrupted` for Ctrl-C, for SIGTERM, and when the terminal is closed.

    Once is enough: a second signal must not cut the orderly end short.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: object) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)
