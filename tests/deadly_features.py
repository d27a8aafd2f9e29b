"""`flows.features` with an embedder that a certain text kills, as a fault in native code would."""

import os
import signal
from collections.abc import Sequence

from bytewax.dataflow import Dataflow

from flows.embedding.embedder import Vectors
from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from tests.hashing import HashingEmbedder

DEADLY = "this text ends the process"


class DeadlyEmbedder(HashingEmbedder):
    def encode(self, texts: Sequence[str]) -> Vectors:
        if any(DEADLY in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, DeadlyEmbedder()))
