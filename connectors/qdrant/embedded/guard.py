"""What stands before each call of the services: the key, and the status of each error."""

import re
from collections.abc import Callable
from hmac import compare_digest
from typing import Any, Final

import grpc

from connectors.qdrant.embedded.engine import EngineError, UnsupportedError
from connectors.qdrant.embedded.room import DiskFullError

_OF_THE_DISK: Final = re.compile(r"(?i)no space left|input/output|os error|i/o error")


class Denied(Exception):
    """An answer other than OK."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """How a server answers an error."""
    if isinstance(error, Denied):
        return error.code, str(error)
    if isinstance(error, UnsupportedError):
        return grpc.StatusCode.UNIMPLEMENTED, f"the embedded store does not have {error}"
    if isinstance(error, DiskFullError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
    if isinstance(error, EngineError) and "No point with id" in str(error):
        return grpc.StatusCode.NOT_FOUND, f"Not found: {error}"
    if isinstance(error, EngineError) and _OF_THE_DISK.search(str(error)):
        return grpc.StatusCode.INTERNAL, f"Service internal error: {error}"
    if isinstance(error, (EngineError, ValueError)):  # the second: what is no id, or no filter
        return grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}"
    return grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Asks each call for the key, and gives each error its status.

    :param api_key: empty: for those who give none
    :param called: told of each call that had the key
    """

    def __init__(self, api_key: str, called: Callable[[], None] = lambda: None) -> None:
        self._api_key = api_key
        self._called = called

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call, behind the check."""
        handler = continuation(details)
        if handler is None:
            return None
        given = dict(details.invocation_metadata).get("api-key", "")

        def call(request: Any, context: Any) -> Any:
            if not compare_digest(given.encode(), self._api_key.encode()):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            self._called()
            try:
                return handler.unary_unary(request, context)
            except NotImplementedError:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{details.method} is not served")
            except Exception as error:  # noqa: BLE001 (each error is an answer)
                context.abort(*status_of(error))

        return grpc.unary_unary_rpc_method_handler(
            call, handler.request_deserializer, handler.response_serializer
        )
