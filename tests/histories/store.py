"""A store that is killed, looked away from, away or full, and the models that fill it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
from qdrant_client import QdrantClient

from flows.embedding.embedder import Vectors
from tests.hashing import HashingEmbedder
from tests.unit.test_answers import Answer

LIMIT = Answer(
    grpc.StatusCode.INVALID_ARGUMENT, "Bad request: Max points count limit of 10 reached!"
)
CONTENT = Answer(
    grpc.StatusCode.INVALID_ARGUMENT, "Validation error in body: [points[0].payload: invalid]"
)
CUT = Answer(grpc.StatusCode.UNAVAILABLE, "Socket closed")

_WRITES = frozenset({"upsert", "delete", "batch_update_points"})
_CALLS = _WRITES | {"retrieve", "scroll"}


class Killed(BaseException):
    """SIGKILL."""


class Fault(NamedTuple):
    """What the store answers to some of the next calls."""

    error: Exception
    calls: range
    """Which of them, counted from 0."""
    names: frozenset[str] = _WRITES
    applied: bool = False
    """Whether the call has been carried out all the same."""


def refusal(first: int, count: int) -> Fault:
    """Some writes are refused for what they hold."""
    return Fault(CONTENT, range(first, first + count))


def limit(first: int, count: int) -> Fault:
    """Some calls, of reading too, meet a limit."""
    return Fault(LIMIT, range(first, first + count), _CALLS)


def lost_answer(first: int, count: int) -> Fault:
    """Some writes are carried out, and the connection is lost before the answer."""
    return Fault(CUT, range(first, first + count), applied=True)


class Interruptible:
    """A Qdrant client that can be killed before a write, and looked away from before any call."""

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self.writes_left: int | None = None
        self.calls_left: int | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self._fault: Fault | None = None
        self._met = 0

    def fail(self, fault: Fault | None) -> None:
        """Answer with a fault from now on; None for none."""
        self._fault, self._met = fault, 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._client, name)
        if name not in _CALLS:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in _WRITES and self.writes_left is not None:
                self.writes_left -= 1
                if self.writes_left < 0:
                    raise Killed
            fault = self._fault_of(name)
            if fault is not None and not fault.applied:
                raise fault.error
            if self.calls_left is not None:
                self.calls_left -= 1
                if self.calls_left < 0:
                    self.calls_left = None
                    self.meanwhile()
            answer = function(*args, **kwargs)
            if fault is not None:
                raise fault.error
            return answer

        return call

    def _fault_of(self, name: str) -> Fault | None:
        fault = self._fault
        if fault is None or name not in fault.names:
            return None
        self._met += 1
        return fault if self._met - 1 in fault.calls else None


class OtherModel(HashingEmbedder):
    """Other vectors of the same size."""

    name = "another"

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode([f"{text} by another" for text in texts])
