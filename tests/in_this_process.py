"""A bound on the work on texts that starts no process: for stores that are opened only."""

from flows.text.bounded import BoundedText
from tests.hashing import HashingEmbedder


class InThisProcess(BoundedText):
    """Starts no process for texts, of which there are none."""

    def __init__(self) -> None:
        super().__init__(lambda: (HashingEmbedder().tokenizer, 254))

    def load(self) -> None: ...
