"""What MongoDB, or its driver, answers instead of a result."""

from collections.abc import Callable
from typing import Any

from pymongo import errors

_KINDS: dict[str, Callable[[], Exception]] = {
    "lost": lambda: errors.AutoReconnect("connection closed"),
    "timeout": lambda: errors.NetworkTimeout("timed out"),
    "no server": lambda: errors.ServerSelectionTimeoutError("No servers found yet"),
    "election": lambda: errors.NotPrimaryError("not primary", {"ok": 0, "code": 10107}),
    "shutdown": lambda: errors.NotPrimaryError("shutting down", {"ok": 0, "code": 91}),
    "unauthorised": lambda: errors.OperationFailure("not authorized on twin to execute", 13),
    "limit": lambda: errors.ExecutionTimeout("operation exceeded time limit", 50),
    "history lost": lambda: errors.OperationFailure("resume point may no longer be there", 286),
    "token refused": lambda: errors.OperationFailure("resume token was not found", 280),
    "not found": lambda: errors.OperationFailure("database not found", 26),
    "exists": lambda: errors.DuplicateKeyError("E11000 duplicate key error", 11000),
    "disk full": lambda: errors.OperationFailure("no space left", 14031),
    "no majority": lambda: errors.WTimeoutError("waiting for replication timed out", 64),
    "cursor gone": lambda: errors.CursorNotFound("cursor id 1 not found", 43),
}
_WRITES = ("replace", "update", "insert", "delete", "find_one_and")
_READS = {"find_one", "command", "server_info", "estimated_document_count", "watch"}


def faults_of(class_: str, name: str) -> list[str]:
    """The kinds that a method can meet. For who reads, it is all one when the answer is lost."""
    kinds = ["lost", "timeout", "no server", "election", "unauthorised", "limit"]
    if name not in _READS:
        kinds += ["lost after", "shutdown after"]
    if class_.endswith("ChangeStream") or name == "watch":
        kinds += ["history lost", "token refused", "not found"]
    if name.startswith(_WRITES):
        kinds += ["disk full", "no majority after"]
    if name.startswith("insert"):
        kinds.append("exists")
    if class_.endswith(("Cursor", "ChangeStream")):
        kinds.append("cursor gone")
    return kinds


def answer(
    kind: str,
    call: Callable[..., Any],
    self: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Raise the error of a kind, before or after the call."""
    if kind.endswith(" after"):
        call(self, *args, **kwargs)
    error = _KINDS[kind.removesuffix(" after")]()
    raise error
