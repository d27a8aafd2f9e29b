"""The errors of a store, and what each says.

An error is one of three things. *Gone*: points that were to be updated are not there any more.
*Content*: the request holds what no server takes. Everything else is an *absence*, which passes or
which a person ends: a server that is away, a limit, a full disk, a lock, a wrong key.

Statuses do not tell them apart. Qdrant answers INVALID_ARGUMENT for a malformed request, for a
collection that holds as many points as it may, for all that strict mode forbids, and in a cluster
for whatever another node has refused (`StorageError` in its lib/storage/src/content_manager and
`CollectionError` in lib/collection/src/operations/types.rs, read in versions 1.13 to 1.19). So
content is told by its text, and a text that is not known costs no document its place.
"""

import re
from typing import Final

import grpc
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from connectors.patience import Absence
from models.errors import ContentRefusedError, PointsGoneError, TwinstreamError

STORE_ERRORS: Final = (ApiException, grpc.RpcError, QdrantException)
"""The errors that a call to a server can raise."""

_GONE: Final = re.compile("No point with id")
_TOO_LARGE: Final = re.compile(
    r"larger than max"  # gRPC's own library, here or in a proxy: "Received message larger than max"
    r"|message length too large"  # that of the server: "decoded message length too large: found …"
    r"|status: 413"  # a proxy of HTTP/2
)
_MALFORMED: Final = re.compile(
    r"Validation error|Validation failed"  # of a field, of a value that storage cannot hold
    r"|Unable to parse UUID"
    r"|Payload type does not match"
)
_TOO_MANY: Final = re.compile(
    r'for "(upsert|update) limit"'  # strict mode: "Limit exceeded 128 > 100 for "upsert limit""
    r"|try to split your request"  # a rate limit that one request exceeds by itself
)
_TOO_LONG_A_PAGE: Final = re.compile(r'for "limit"')
_NO_COLLECTION: Final = re.compile(r"Collection .* (doesn\W+t exist|not found)")
_NO_VECTOR: Final = re.compile(
    r"Not existing vector name|[Vv]ector \S+ (is )?not found|[Vv]ector with name .* not found"
)

_REFUSED: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNKNOWN,
}
_REFUSED_HTTP: Final = {400, 413, 422}

_REMEDIES: Final = {
    # Max points count limit of 10 reached!, Max vector storage size limit of 1MB reached!
    r"(count|size) limit of": "raise this limit of the collection, or delete points",
    # Out of memory, free: 0, …; Resident memory usage is at 91% of total memory
    r"(?i)memory": "give the server more memory",
    # No space left on device: WAL buffer size exceeds available disk space
    r"(?i)disk|no space left|I/O|input/output": "free space on its disk, or mend it",
    # Write rate limit exceeded: Operation requires 128 tokens but only 3.0 were available.
    r"(?i)rate limit": "raise the rate limits of the collection",
    # Index required but not found for "model" of one of the following types: [keyword]. Help: …
    r"Index required|Limit exceeded|Help: ": "allow this in the strict mode of the collection",
    # Storage locked: Write operations are forbidden; attempt to write a readonly database
    r"(?i)\block(ed)?\b|forbidden$|read-?only": "unlock it for writing",
    rf"Vector dimension|vector name|{_NO_COLLECTION.pattern}": (
        "a collection is gone, or was made anew for another model: restart the flow, then run "
        "make reconcile"
    ),
}
_REMEDIES_BY_CODE: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "set the QDRANT_API_KEY of this server",
    grpc.StatusCode.PERMISSION_DENIED: "set a QDRANT_API_KEY that may write",
    grpc.StatusCode.INVALID_ARGUMENT: "see the server's log and limits",
    grpc.StatusCode.FAILED_PRECONDITION: "see the server's log",
    grpc.StatusCode.UNIMPLEMENTED: "run a server of a supported version",
}


def is_away(error: BaseException) -> bool:
    """Whether an error is an absence: neither of the content nor of points that are gone."""
    return isinstance(error, STORE_ERRORS) and not (_is_content(error) or is_gone(error))


def is_too_much(error: BaseException) -> bool:
    """Whether a reading request may succeed if it asks for less: the answer takes too long, is
    larger than the way to the server carries, or has more points than strict mode allows.
    """
    late = _code(error) == grpc.StatusCode.DEADLINE_EXCEEDED
    text = one_line(error)
    return bool(late or _TOO_LARGE.search(text) or _TOO_LONG_A_PAGE.search(text))


def is_divisible(error: BaseException) -> bool:
    """Whether a writing request may succeed in parts: it is too large, or has too many points."""
    text = one_line(error)
    return bool(_TOO_LARGE.search(text) or _TOO_MANY.search(text))


def is_missing_collection(error: BaseException) -> bool:
    """Whether a reading request failed because its collection does not exist."""
    # By its text: a shard of a cluster that cannot be found has the same status.
    return bool(_NO_COLLECTION.search(one_line(error)))


def is_missing_vector(error: BaseException) -> bool:
    """Whether a request failed because its collection has no vectors of this name."""
    return bool(_NO_VECTOR.search(one_line(error)))


def explain(error: BaseException) -> Absence:
    """An absence in words: what the store said and, where it did answer, what a person can do."""
    text = one_line(error)
    for pattern, remedy in _REMEDIES.items():
        if re.search(pattern, text) and _code(error) != grpc.StatusCode.UNAVAILABLE:
            return Absence(text, remedy)
    return Absence(text, _REMEDIES_BY_CODE.get(_code(error), ""))


def translated(error: Exception) -> TwinstreamError:
    """An error that is no absence as one of ours."""
    kind = PointsGoneError if is_gone(error) else ContentRefusedError
    return kind(one_line(error))


def one_line(error: BaseException) -> str:
    """The reason that an error gives, on one line."""
    details = getattr(error, "details", None)
    text = details() if isinstance(error, grpc.RpcError) and callable(details) else str(error)
    return " ".join(str(text).split())[:300] or type(error).__name__


def _code(error: BaseException) -> grpc.StatusCode | None:
    code: grpc.StatusCode | None = getattr(error, "code", lambda: None)()
    return code


def _is_content(error: BaseException) -> bool:
    refused = (
        error.status_code in _REFUSED_HTTP
        if isinstance(error, UnexpectedResponse)
        else _code(error) in _REFUSED
    )
    text = one_line(error)
    return refused and bool(_TOO_LARGE.search(text) or _MALFORMED.search(text))


def is_gone(error: BaseException) -> bool:
    """Whether points that were to be updated are not there."""
    return bool(_GONE.search(one_line(error)))
