"""`flows.reconcile` for a store that was made with the hashing embedder.

Run with `python -m tests.hashing_reconcile`.
"""

import sys
import threading

from flows.command import run_command
from flows.reconcile import main
from tests.hashing import HashingEmbedder

if __name__ == "__main__":
    code = run_command("reconcile", lambda: main(embedder=HashingEmbedder()))
    left = [thread.name for thread in threading.enumerate() if not thread.daemon]
    assert left == ["MainThread"], left
    sys.exit(code)
