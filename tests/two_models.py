"""Two small models that cut, and embed, otherwise, and the flow and the commands with them.

`python -m bytewax.run tests.two_models` is the features flow. `python -m tests.two_models COMMAND`
is `flows.migrate`, and `python -m tests.two_models reconcile` is `flows.reconcile`. Each text that
is embedded is counted in the file that EMBEDDED_LOG names.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bytewax.dataflow import Dataflow

from flows import migrate, reconcile
from flows.command import run_command
from flows.embedding.embedder import Vectors
from flows.features import assemble
from flows.model_and_store import ModelAndStore
from flows.settings import Settings
from models.fresh import text_hash
from tests.hashing import HashingEmbedder

OLD, NEW = "", "hashing-48"
"""As EMBEDDING_MODEL."""


class Wider(HashingEmbedder):
    """More components, smaller chunks."""

    name = NEW
    dimension = 48
    max_tokens = 60


class Counted:
    """Appends a line for each text that is embedded: the model, and a hash of the text."""

    def __init__(self, embedder: HashingEmbedder) -> None:
        self._embedder = embedder
        self.name, self.dimension = embedder.name, embedder.dimension
        self.max_tokens, self.tokenizer = embedder.max_tokens, embedder.tokenizer
        self._log = Path(os.environ.get("EMBEDDED_LOG", os.devnull))

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._log.open("a") as log:
            log.writelines(f"{self.name} {text_hash(text)}\n" for text in texts)
        return self._embedder.encode(texts)


def embedder_of(model: str) -> Counted:
    if model not in (OLD, NEW):
        raise FileNotFoundError(f"there is no model at {model}")
    return Counted(Wider() if model == NEW else HashingEmbedder())


def flow() -> Dataflow:
    settings = Settings.from_env()
    settings.configure_logging()
    return assemble(settings, ModelAndStore(settings, embedder_of=embedder_of))


if __name__ == "__main__":
    if sys.argv[1] == "reconcile":
        sys.exit(run_command("reconcile", lambda: reconcile.main([], None, embedder_of)))
    sys.exit(run_command("migrate", lambda: migrate.main(sys.argv[1:], embedder_of)))
