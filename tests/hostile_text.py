"""The process that works on texts, with a pattern that certain texts are too much for, and with
texts that kill it.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence

from flows.text import child
from flows.text.clean import clean_texts

ENDLESS = "this text takes for ever"
DEADLY = "this text ends its process"
EXPONENTIAL = re.compile("(?:a+)+b")


def clean(texts: Sequence[str]) -> list[str]:
    for text in texts:
        if ENDLESS in text:
            EXPONENTIAL.search("a" * 100)
        if DEADLY in text:
            os.kill(os.getpid(), signal.SIGKILL)
    return clean_texts(texts)


if __name__ == "__main__":
    child.clean_texts = clean
    child.main(int(sys.argv[1]))
