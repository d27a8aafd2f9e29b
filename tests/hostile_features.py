"""`flows.features` with a second of processor time for the texts of a document, and a pattern that
takes longer for some.
"""

from bytewax.dataflow import Dataflow

from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from flows.text.bounded import BoundedText
from tests.hashing import HashingEmbedder


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    embedder = HashingEmbedder()
    text = BoundedText(
        lambda: (embedder.tokenizer, embedder.max_tokens), 1.0, child="tests.hostile_text"
    )
    return assemble(settings, ModelAndStore(settings, embedder, text))
