"""`flows.features` with a model that takes a minute to load."""

import logging
import time

from bytewax.dataflow import Dataflow
from tokenizers import Tokenizer

from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from tests.hashing import HashingEmbedder


class SlowEmbedder(HashingEmbedder):
    @property
    def tokenizer(self) -> Tokenizer:
        logging.getLogger("tests").warning("loading")
        time.sleep(60)
        return super().tokenizer


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, SlowEmbedder()))
