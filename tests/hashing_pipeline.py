"""`flows.pipeline` with the hashing embedder, for tests that start it as a process.

Run with `python -m bytewax.run tests.hashing_pipeline`.
"""

from bytewax.dataflow import Dataflow

from flows.model_and_store import ModelAndStore
from flows.pipeline import assemble
from flows.settings import Settings
from tests.hashing import HashingEmbedder


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, HashingEmbedder()))
