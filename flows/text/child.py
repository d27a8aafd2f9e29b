"""The other end of `flows.text.bounded`: a process that works on texts until its parent is gone.

`python -m flows.text.child FD` talks over the socket that it inherits as FD.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tokenizers import Tokenizer

from flows.text.chunk import Chunker
from flows.text.clean import clean_texts


def main(descriptor: int) -> None:
    """Answer requests of (task, its argument, seconds) with (what it raised, its result)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent drains, and needs this process for it
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with Connection(descriptor) as parent, suppress(EOFError, OSError):
        tokenizer, max_tokens = parent.recv()
        chunker = Chunker(Tokenizer.from_str(tokenizer), max_tokens)
        parent.send(None)
        _serve(parent, {"clean": clean_texts, "split": chunker.split_all})


def _serve(
    parent: "Connection[Any, Any]", tasks: dict[str, Callable[[Sequence[Any]], Any]]
) -> None:
    while True:
        task, texts, seconds = parent.recv()
        # The kernel ends this process when it has used up that much processor time: neither
        # Python's lock nor a machine that is busy or asleep has a say in it.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = "", tasks[task](texts)
        except Exception as error:  # noqa: BLE001 (the document's own fault, whatever it is)
            answer = f"{type(error).__name__}: {error}", None
        signal.setitimer(signal.ITIMER_PROF, 0)
        parent.send(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
