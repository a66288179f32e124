"""Outermost: bytes become the request, and every error becomes a status that says what to do.

The request is decoded here and not by gRPC, which answers undecodable bytes with UNKNOWN before anyone is asked.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from coherence_grpc.convert.refusals import DOMAIN, MAX_MESSAGE, answer_of, cut, status_of
from coherence_grpc.errors import CoherenceError, MessageTooLarge
from coherence_grpc.telemetry import new_error_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Method

DETAILS_KEY: Final = "grpc-status-details-bin"
# The gRPC core's retries obey this, and not RetryInfo.
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
_log = logging.getLogger(__name__)


def decoded(raw: bytes, method: Method, decode: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - any request
    """The request that the bytes are.

    Raises:
        MessageTooLarge: they are more than the method takes.
        SignalInvalid, FilterInvalid: they are no such message.
    """
    if len(raw) > method.max_bytes:
        message = f"the message has {len(raw)} bytes and at most {method.max_bytes} are accepted; send smaller batches"
        raise MessageTooLarge(message, metadata={"max_bytes": str(method.max_bytes)})
    try:
        return decode(raw)
    except DecodeError:
        message = "the request does not decode; encode it with the service's protos"
        raise method.invalid(message) from None


async def refuse(context: Context, error: CoherenceError) -> NoReturn:
    """End the call with the error's status."""
    answer = answer_of(error)
    metadata: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status_of(error).SerializeToString())]
    if answer.retry_after_s is not None:
        metadata.append((PUSHBACK_KEY, str(round(answer.retry_after_s * 1000))))
    await _abort(context, answer.code, cut(error.message, MAX_MESSAGE), *metadata)


async def fail(context: Context, path: str, fault: Exception) -> NoReturn:
    """End the call as a fault of ours: the log has the text, the caller an id to ask for it."""
    error_id = new_error_id()
    _log.error("internal error", exc_info=fault, extra={"fields": {"method": path, "error_id": error_id}})
    message = f"internal error; quote error_id {error_id} to whoever runs the service"
    status = Status(code=grpc.StatusCode.INTERNAL.value[0], message=message)
    status.details.add().Pack(ErrorInfo(reason=CoherenceError.reason, domain=DOMAIN, metadata={"error_id": error_id}))
    await _abort(context, grpc.StatusCode.INTERNAL, message, (DETAILS_KEY, status.SerializeToString()))


async def _abort(context: Context, code: grpc.StatusCode, message: str, *metadata: tuple[str, str | bytes]) -> NoReturn:
    try:
        await context.abort(code, message, metadata)
    except grpc.aio.InternalError:
        # The caller has gone, and what gRPC says of that is no fault of ours.
        raise asyncio.CancelledError from None
