"""Which status, details and retry hint each error becomes: the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from coherence_grpc import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coherence_grpc.errors import CoherenceError

DOMAIN: Final = "coherence.v1"
# In bytes. All details together must fit in the 8 kB of metadata that peers accept by default, the message twice and
# percent-encoded, the details in base64.
MAX_FIELDS: Final = 12
MAX_PATH: Final = 80
MAX_PROBLEM: Final = 160
MAX_MESSAGE: Final = 500
MAX_METADATA: Final = 512


class Answer(NamedTuple):
    """The status code of an error class, and after how long the same call may succeed; None: not by itself."""

    code: StatusCode
    retry_after_s: float | None = None


ANSWERS: Final[Mapping[type[CoherenceError], Answer]] = {
    errors.SignalInvalid: Answer(StatusCode.INVALID_ARGUMENT),
    errors.FilterInvalid: Answer(StatusCode.INVALID_ARGUMENT),
    errors.PageTokenInvalid: Answer(StatusCode.INVALID_ARGUMENT),
    errors.CursorForeign: Answer(StatusCode.INVALID_ARGUMENT),
    errors.ScorePolicyInvalid: Answer(StatusCode.INVALID_ARGUMENT),
    errors.StreamInvalid: Answer(StatusCode.INVALID_ARGUMENT),
    errors.TokenMissing: Answer(StatusCode.UNAUTHENTICATED),
    errors.PolicyDenied: Answer(StatusCode.PERMISSION_DENIED),
    errors.ScopeMissing: Answer(StatusCode.PERMISSION_DENIED),
    errors.SignalUnknown: Answer(StatusCode.NOT_FOUND),
    errors.ProvenanceUnknown: Answer(StatusCode.NOT_FOUND),
    errors.ScorePolicyUnknown: Answer(StatusCode.NOT_FOUND),
    errors.Conflict: Answer(StatusCode.ALREADY_EXISTS),
    errors.RequestIdReused: Answer(StatusCode.ALREADY_EXISTS),
    errors.MigrationPending: Answer(StatusCode.FAILED_PRECONDITION),
    errors.StreamSequenceGap: Answer(StatusCode.FAILED_PRECONDITION),
    errors.EtagMismatch: Answer(StatusCode.ABORTED),
    errors.CursorExpired: Answer(StatusCode.OUT_OF_RANGE),
    errors.TsOutsideRetention: Answer(StatusCode.OUT_OF_RANGE),
    errors.WindowIncomplete: Answer(StatusCode.OUT_OF_RANGE),
    errors.Concurrency: Answer(StatusCode.RESOURCE_EXHAUSTED, 0.1),
    errors.CreditExceeded: Answer(StatusCode.RESOURCE_EXHAUSTED),
    errors.SubscriberLagged: Answer(StatusCode.RESOURCE_EXHAUSTED, 0.1),
    errors.MessageTooLarge: Answer(StatusCode.RESOURCE_EXHAUSTED),
    errors.StorageFull: Answer(StatusCode.RESOURCE_EXHAUSTED),
    errors.StoreDown: Answer(StatusCode.UNAVAILABLE, 1.0),
    errors.OutcomeUnknown: Answer(StatusCode.UNAVAILABLE, 1.0),
    errors.StoreTimeout: Answer(StatusCode.DEADLINE_EXCEEDED, 0.5),
    errors.OutOfTime: Answer(StatusCode.DEADLINE_EXCEEDED, 0.5),
    errors.StoreBusy: Answer(StatusCode.DEADLINE_EXCEEDED, 0.5),
    errors.FreshnessTimeout: Answer(StatusCode.DEADLINE_EXCEEDED, 0.2),
    errors.Draining: Answer(StatusCode.UNAVAILABLE, 0.5),
    errors.FeatureDisabled: Answer(StatusCode.UNAVAILABLE),
}
FAULT: Final = Answer(StatusCode.INTERNAL)
# Whoever lost the answer must be told that the question of what became of the write is open.
UNKNOWN_OUTCOME: Final = {"outcome": "unknown"}


def answer_of(error: CoherenceError) -> Answer:
    """The status of the error, with its own retry hint where it has one."""
    answer = ANSWERS.get(type(error), FAULT)
    return answer if error.retry_after_s is None else Answer(answer.code, error.retry_after_s)


def status_of(error: CoherenceError) -> Status:
    """The error as google.rpc.Status, with ErrorInfo, BadRequest where fields are wrong and RetryInfo where due."""
    answer = answer_of(error)
    status = Status(code=answer.code.value[0], message=cut(error.message, MAX_MESSAGE))
    metadata = {key: cut(value, MAX_METADATA) for key, value in error.metadata.items()}
    if isinstance(error, errors.OutcomeUnknown):
        metadata |= UNKNOWN_OUTCOME
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.fields:
        status.details.add().Pack(
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field=cut(path, MAX_PATH), description=cut(problem, MAX_PROBLEM))
                    for path, problem in error.fields[:MAX_FIELDS]
                ]
            )
        )
    if answer.retry_after_s is not None:
        delay = Duration()
        delay.FromMicroseconds(round(answer.retry_after_s * 1e6))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


def cut(text: str, limit: int) -> str:
    """The text, or its beginning when it is longer than the limit in UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= limit else f"{encoded[: limit - 3].decode(errors='ignore')}…"
