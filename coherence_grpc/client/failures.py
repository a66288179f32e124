"""How a call fails: one exception per decision that a caller can take, each with the refusal it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.client.refusal import Refusal, refusal_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import grpc.aio

    from coherence_grpc.client.model import Signal
    from coherence_grpc.errors import FieldError


class Refused(Exception):
    """The call was refused, or got no answer; `refusal` says why in words that a caller can act on."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal

    @property
    def code(self) -> str:
        """The word of the gRPC status."""
        return self.refusal.code

    @property
    def reason(self) -> str:
        """The word of the ErrorReason enum; '' when no backbone answered."""
        return self.refusal.reason

    @property
    def fields(self) -> tuple[FieldError, ...]:
        """What is wrong with which field."""
        return self.refusal.fields

    @property
    def retry_after_s(self) -> float | None:
        """When the same call may succeed; None: not by itself."""
        return self.refusal.retry_after_s


class Invalid(Refused):
    """The request is malformed: correct the named fields."""


class NotAuthenticated(Refused):
    """There is no token, or it isn't valid any more: get another."""


class Forbidden(Refused):
    """The caller may not do this."""


class NotFound(Refused):
    """There is no such thing."""


class Conflict(Refused):
    """The key or the request id is taken by another content, which stays."""


class Outdated(Refused):
    """The etag is not the current one: read, decide, try again."""


class OutOfRange(Refused):
    """What was asked for is not kept any more, or lies before all that is kept."""


class CursorExpired(OutOfRange):
    """The cursor points at what is no longer (or not) in the log, which holds `earliest_seq` to `latest_seq`."""

    @property
    def earliest_seq(self) -> int:
        """The oldest entry that can be read; 0 when there is none."""
        return int(self.refusal.metadata.get("earliest_seq", 0))

    @property
    def latest_seq(self) -> int:
        """The newest entry; 0 when there is none."""
        return int(self.refusal.metadata.get("latest_seq", 0))


class Exhausted(Refused):
    """A limit is reached: wait for retry_after_s, or send less."""


class Unavailable(Refused):
    """The service can't be reached, or can't serve just now: the same call may succeed later."""


class TimedOut(Refused):
    """The answer did not come in time. What was sent may have been done: send the same again to learn."""


class PublishIncomplete(Exception):
    """A Publisher could not hand over everything that it had accepted.

    `unacked` are the signals that no ack has covered: the last of them that were sent may be stored all the same, and
    under their own ids and instants they can be put again without being stored twice. The cause, where there is one, is
    why the Publisher gave up.
    """

    def __init__(self, unacked: Sequence[Signal], why: str) -> None:
        first = f", the first {unacked[0].source}/{unacked[0].signal_id}" if unacked else ""
        super().__init__(f"{len(unacked):,} accepted signals are not acknowledged{first}: {why}")
        self.unacked = tuple(unacked)


_BY_CODE: Final[Mapping[str, type[Refused]]] = {
    "INVALID_ARGUMENT": Invalid,
    "UNAUTHENTICATED": NotAuthenticated,
    "PERMISSION_DENIED": Forbidden,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Conflict,
    "ABORTED": Outdated,
    "OUT_OF_RANGE": OutOfRange,
    "RESOURCE_EXHAUSTED": Exhausted,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": TimedOut,
}
_BY_REASON: Final[Mapping[str, type[Refused]]] = {"CURSOR_EXPIRED": CursorExpired}
# Sent again unchanged, the same call may succeed; with its request id it is done once.
_PASSING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED"})


def failure(refusal: Refusal) -> Refused:
    """The exception for a refusal."""
    kind = _BY_REASON.get(refusal.reason) or _BY_CODE.get(refusal.code, Refused)
    return kind(refusal)


def failure_of(error: grpc.aio.AioRpcError) -> Refused:
    """The exception for a failed call."""
    return failure(refusal_of(error))


def may_pass(refusal: Refusal) -> bool:
    """The same call may succeed in a moment."""
    return refusal.code in _PASSING or refusal.retry_after_s is not None
