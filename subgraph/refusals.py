"""Refusals on their way out: the backbone's words, kept, and what they mean in GraphQL and in HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.client import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence_grpc.errors import FieldError

INTERNAL: Final = "INTERNAL_SERVER_ERROR"
_LISTED_FIELDS: Final = 5

# What GraphQL callers read as extensions.code; what is missing here is a fault of ours and masked.
GRAPHQL_CODE: Final[Mapping[str, str]] = {
    "INVALID_ARGUMENT": "BAD_USER_INPUT",
    "OUT_OF_RANGE": "BAD_USER_INPUT",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    "PERMISSION_DENIED": "FORBIDDEN",
    "NOT_FOUND": "NOT_FOUND",
    "ALREADY_EXISTS": "CONFLICT",
    "ABORTED": "CONFLICT",
    "RESOURCE_EXHAUSTED": "RATE_LIMITED",
    "DEADLINE_EXCEEDED": "TIMEOUT",
    "UNAVAILABLE": "SERVICE_UNAVAILABLE",
}

_HTTP_STATUS: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

# RESOURCE_EXHAUSTED says who has run out of what only by its reason.
_HTTP_STATUS_OF_REASON: Final[Mapping[str, int]] = {"MESSAGE_TOO_LARGE": 413, "STORAGE_FULL": 507}

# What grpc says when no backbone answered is about sockets; callers get this instead.
_UNANSWERED: Final[Mapping[str, str]] = {
    "UNAVAILABLE": "the service can't be reached just now; send the same request again in a moment",
    "DEADLINE_EXCEEDED": "the service did not answer in time; send the same request again",
    "RESOURCE_EXHAUSTED": "the request or its answer is too large for one message; send smaller batches",
    "UNAUTHENTICATED": "the caller is not known here; send a valid token",
    "PERMISSION_DENIED": "the caller may not do this",
}
_UNREACHED_RETRY_S: Final = 1.0
MASKED: Final = "something went wrong on our side; quote the error id when you report it"


class Refused(Exception):
    """A request, or one item of it, was refused; `refusal` says why in words a caller can act on."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def invalid(message: str, *fields: FieldError, reason: str = "FILTER_INVALID") -> Refused:
    """A refusal of ours for what never needed to be sent on."""
    return Refused(Refusal("INVALID_ARGUMENT", reason, message, fields))


def presentable(refusal: Refusal) -> Refusal:
    """The refusal without words that are not for callers: grpc's own, and those of our faults."""
    if refusal.code not in GRAPHQL_CODE:
        kept = {key: value for key, value in refusal.metadata.items() if key == "error_id"}
        return Refusal("INTERNAL", "INTERNAL", MASKED, (), kept, None)
    if refusal.reason:
        return refusal
    retry = _UNREACHED_RETRY_S if refusal.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} else None
    return Refusal(refusal.code, "", _UNANSWERED.get(refusal.code, "the request was refused"), (), {}, retry)


def renamed(refusal: Refusal, rename: Callable[[str], str]) -> Refusal:
    """The refusal with its field paths in the caller's words, and a message made of them where there are any."""
    if not refusal.fields:
        return refusal
    fields = tuple(field._replace(path=rename(field.path)) for field in refusal.fields)
    listed = "; ".join(f"{field.path} {field.problem}" for field in fields[:_LISTED_FIELDS])
    more = f"; and {len(fields) - _LISTED_FIELDS} more" if len(fields) > _LISTED_FIELDS else ""
    return Refusal(refusal.code, refusal.reason, listed + more, fields, refusal.metadata, refusal.retry_after_s)


def http_status(refusal: Refusal) -> int:
    """The HTTP status that says the same."""
    return _HTTP_STATUS_OF_REASON.get(refusal.reason) or _HTTP_STATUS.get(refusal.code, 500)
