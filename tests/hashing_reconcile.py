"""`flows.reconcile` for a store that was made with the hashing embedder.

Run with `python -m bytewax.run tests.hashing_reconcile`.
"""

from bytewax.dataflow import Dataflow

from flows.lifecycle import one_line_errors
from flows.reconcile import Run
from flows.settings import Settings
from tests.hashing import HashingEmbedder


def flow() -> Dataflow:
    with one_line_errors():
        return Run(Settings.from_env(), HashingEmbedder()).begin()
