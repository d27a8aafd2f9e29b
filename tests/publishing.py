"""Publishers for tests of sources: one that has nothing to publish, and one that obeys a test."""

from collections.abc import Sequence

from models import Message, Receipt


class NothingToPublish:
    """Of whatever is handed on, no message is made."""

    submitted = 0
    confirmed = 0
    has_room = True
    is_heavy = False

    def start(self) -> None:
        """Nothing to connect to."""

    def check(self) -> None:
        """Nothing can fail."""

    def unconfirmed(self) -> set[Receipt | None]:
        return set()


class HeldBack:
    """Confirms when it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.confirmed = 0
        self.has_room = True
        self.is_heavy = False
        self.failure: Exception | None = None

    @property
    def submitted(self) -> int:
        return len(self.messages)

    def start(self) -> None:
        """Nothing to connect to."""

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def submit(self, messages: Sequence[Message]) -> None:
        self.messages += messages

    def unconfirmed(self) -> set[Receipt | None]:
        return {message.receipt for message in self.messages[self.confirmed :]}
