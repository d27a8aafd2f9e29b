"""`flows.features` with the hashing embedder, for tests that start it as a process many times.

Run with `python -m bytewax.run tests.hashing_features`.
"""

from bytewax.dataflow import Dataflow

from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from tests.hashing import HashingEmbedder


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, HashingEmbedder()))
