"""What a refused call says, as a plain value: google.rpc.Status and its details, decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from coherence_grpc.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc.aio

_Detail = TypeVar("_Detail", BadRequest, ErrorInfo, RetryInfo)
DETAILS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call, or an item of a batch, was refused.

    `code` is the word of the gRPC status, `reason` that of the ErrorReason enum without its prefix; '' when the answer
    is not the backbone's, as when it can't be reached. `retry_after_s` is set when the same call may succeed later.
    """

    code: str
    reason: str
    message: str
    fields: tuple[FieldError, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """The refusal that a failed call carries; without readable details, its code and text alone."""
    code = error.code().name
    raw = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    if isinstance(raw, bytes) and raw:
        try:
            return refusal_of_status(Status.FromString(raw))
        except (DecodeError, ValueError):
            pass
    return Refusal(code, "", error.details() or code)


def refusal_of_status(status: Status) -> Refusal:
    """The refusal in a google.rpc.Status, such as the `error` of one item of a batch."""
    info = _detail(status, ErrorInfo()) or ErrorInfo()
    bad = _detail(status, BadRequest()) or BadRequest()
    retry = _detail(status, RetryInfo())
    return Refusal(
        Code.Name(status.code),
        info.reason,
        status.message,
        tuple(FieldError(violation.field, violation.description) for violation in bad.field_violations),
        dict(info.metadata),
        None if retry is None else retry.retry_delay.ToMicroseconds() / 1e6,
    )


def _detail(status: Status, empty: _Detail) -> _Detail | None:
    return empty if any(detail.Unpack(empty) for detail in status.details) else None
