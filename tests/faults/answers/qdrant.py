"""What Qdrant, or the way to it, answers instead of a result."""

from collections.abc import Callable
from typing import Any

import grpc


class RpcFailure(grpc.RpcError):  # type: ignore[misc]
    """What the gRPC client raises."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._answer = (code, details)

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]


_STATUS = grpc.StatusCode
_KINDS: dict[str, tuple[grpc.StatusCode, str]] = {
    "lost": (_STATUS.UNAVAILABLE, "failed to connect to all addresses"),
    "timeout": (_STATUS.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    "unauthorised": (_STATUS.UNAUTHENTICATED, "Must provide an API key or an Authorization token"),
    "forbidden": (_STATUS.PERMISSION_DENIED, "Forbidden: Global manage access is required"),
    "rate": (_STATUS.RESOURCE_EXHAUSTED, "Rate limiting exceeded: Write rate limit exceeded"),
    "limit": (
        _STATUS.INVALID_ARGUMENT,
        "Bad request: Max points count limit of 10 reached for collection",
    ),
    "strict filter": (
        _STATUS.INVALID_ARGUMENT,
        'Bad request: Index required but not found for "entry_id". Help: Create an index for it',
    ),
    "strict page": (_STATUS.INVALID_ARGUMENT, 'Bad request: Limit exceeded 256 > 100 for "limit"'),
    "strict batch": (
        _STATUS.INVALID_ARGUMENT,
        'Bad request: Limit exceeded 128 > 100 for "upsert limit"',
    ),
    "too large": (
        _STATUS.RESOURCE_EXHAUSTED,
        "Received message larger than max (9000000 vs. 8000000)",
    ),
    "disk full": (
        _STATUS.INTERNAL,
        "Service internal error: No space left on device: WAL buffer size exceeds available disk",
    ),
    "internal": (_STATUS.INTERNAL, "Service internal error: task panicked"),
    "not found": (_STATUS.NOT_FOUND, "Not found: Collection `x` doesn't exist!"),
    "gone": (_STATUS.NOT_FOUND, "Not found: No point with id 1 found"),
    "exists": (_STATUS.ALREADY_EXISTS, "Wrong input: Collection `x` already exists!"),
    "dimension": (_STATUS.INVALID_ARGUMENT, "Wrong input: Vector dimension error"),
    "invalid": (_STATUS.INVALID_ARGUMENT, "Validation error in JSON body: invalid value"),
}
_READS = {"collection_exists", "get_collection", "retrieve", "scroll", "count", "facet", "query"}
_UPDATES = ("batch_update_points", "set_payload")
_FILTERED = {"scroll", "count", "facet", "delete"}
CONTENT = {"invalid", "too large"}
"""Refusals of content: the document becomes a dead letter, which `replay` puts back."""


def faults_of(_class: str, name: str) -> list[str]:
    """The kinds that a method can meet. For who reads, it is all one when the answer is lost."""
    kinds = ["lost", "timeout", "unauthorised", "forbidden", "rate", "disk full", "internal"]
    kinds.append("not found")
    if name not in _READS:
        kinds += ["lost after", "timeout after", "limit"]
    if name in _FILTERED:
        kinds.append("strict filter")
    if name in ("scroll", "retrieve"):
        kinds += ["strict page", "too large"]
    if name.startswith("create"):
        kinds.append("exists")
    if name in ("upsert", *_UPDATES):
        kinds += ["invalid", "strict batch", "too large"]
    if name == "upsert":
        kinds.append("dimension")
    if name in _UPDATES:
        kinds.append("gone")
    return kinds


def answer(
    kind: str,
    call: Callable[..., Any],
    self: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Raise the status of a kind, before or after the call."""
    if kind.endswith(" after"):
        call(self, *args, **kwargs)
    raise RpcFailure(*_KINDS[kind.removesuffix(" after")])
