"""What can go wrong, in the caller's terms: one leaf per decision a caller can take.

Only the interceptor knows status codes. A message names the field and the next step; it never holds a driver's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FieldError(NamedTuple):
    """What is wrong with one field: `path` as in the request (`signals[3].value`), `problem` with the remedy."""

    path: str
    problem: str


class CoherenceError(Exception):
    """A refusal that a caller can act on.

    `reason` is the word of the ErrorReason enum, `metadata` travels in ErrorInfo, `retry_after_s` is set when the
    same call may succeed later.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        fields: Sequence[FieldError] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = tuple(fields)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class SignalInvalid(CoherenceError):
    """A signal or a publish request is malformed; fix the named fields."""

    reason = "SIGNAL_INVALID"


class FilterInvalid(CoherenceError):
    """A read's argument is malformed; fix the named fields."""

    reason = "FILTER_INVALID"


class ScorePolicyInvalid(CoherenceError):
    """A rule of a score policy is malformed; fix the named fields."""

    reason = "SCORE_POLICY_INVALID"


class StreamInvalid(CoherenceError):
    """A frame of a signal stream is malformed or out of turn; open the stream again and send what the message says."""

    reason = "STREAM_INVALID"


class StreamSequenceGap(CoherenceError):
    """A streamed batch does not continue the sequence; open the stream again from the last ack."""

    reason = "STREAM_SEQUENCE_GAP"


class CreditExceeded(CoherenceError):
    """More unacknowledged signals than the stream's credits; wait for acks before sending on."""

    reason = "CREDIT_EXCEEDED"


class ScorePolicyUnknown(CoherenceError):
    """The tenant never had a score policy of that etag."""

    reason = "SCORE_POLICY_UNKNOWN"


class EtagMismatch(CoherenceError):
    """The etag is not the current one; read, decide, try again. Metadata `etag` is the current one."""

    reason = "ETAG_MISMATCH"


class PageTokenInvalid(CoherenceError):
    """The page token belongs to another request; start from the first page."""

    reason = "PAGE_TOKEN_INVALID"


class CursorForeign(CoherenceError):
    """The cursor or revision was not issued by this service for this tenant."""

    reason = "CURSOR_FOREIGN"


class TokenMissing(CoherenceError):
    """No identity: authentication is on, or the local principal's conditions don't hold."""

    reason = "TOKEN_MISSING"


class PolicyDenied(CoherenceError):
    """The policy refuses the call."""

    reason = "POLICY_DENIED"


class ScopeMissing(CoherenceError):
    """The caller lacks the scope of the method."""

    reason = "SCOPE_MISSING"


class SignalUnknown(CoherenceError):
    """No signal is stored under that key."""

    reason = "SIGNAL_UNKNOWN"


class ProvenanceUnknown(CoherenceError):
    """The tenant has no provenance record of that id."""

    reason = "PROVENANCE_UNKNOWN"


class Conflict(CoherenceError):
    """The key is stored with another payload; publish under a new signal_id or ts, or replace it."""

    reason = "SIGNAL_KEY_CONFLICT"


class RequestIdReused(CoherenceError):
    """The request id was used for another request; choose a new one."""

    reason = "REQUEST_ID_REUSED"


class MigrationPending(CoherenceError):
    """The store was written by another version; migrate it, or run that version."""

    reason = "MIGRATION_PENDING"


class CursorExpired(CoherenceError):
    """The position is not in the log any more, or not yet; metadata names the retained range."""

    reason = "CURSOR_EXPIRED"


class TsOutsideRetention(CoherenceError):
    """The signal is older than its retention."""

    reason = "TS_OUTSIDE_RETENTION"


class WindowIncomplete(CoherenceError):
    """The window overlaps erased signals, so its score can't be recomputed."""

    reason = "WINDOW_INCOMPLETE"


class Concurrency(CoherenceError):
    """Too many calls of this service are in flight; retry after the hint."""

    reason = "CONCURRENCY"


class SubscriberLagged(CoherenceError):
    """The subscriber took no frame for too long; resume from metadata `resume_cursor`."""

    reason = "SUBSCRIBER_LAGGED"


class MessageTooLarge(CoherenceError):
    """The message is larger than the limit; send smaller batches."""

    reason = "MESSAGE_TOO_LARGE"


class StorageFull(CoherenceError):
    """The store has no room left; nothing of the call was stored."""

    reason = "STORAGE_FULL"


class StoreDown(CoherenceError):
    """The store can't be reached."""

    reason = "STORE_DOWN"


class OutcomeUnknown(StoreDown):
    """The store was lost after the commit was sent: send the same request again to learn what became of it."""


class StoreTimeout(CoherenceError):
    """The store did not answer in the time the call had left."""

    reason = "STORE_TIMEOUT"


class OutOfTime(StoreTimeout):
    """The caller's own time ran out before the store answered, which says nothing about the store."""


class StoreBusy(StoreTimeout):
    """The store is there, but was too slow for this call, or another call stood in its way."""


class FreshnessTimeout(CoherenceError):
    """The revision asked for did not become visible in time."""

    reason = "FRESHNESS_TIMEOUT"


class Draining(CoherenceError):
    """The server is shutting down."""

    reason = "DRAINING"


class FeatureDisabled(CoherenceError):
    """The feature is switched off."""

    reason = "FEATURE_DISABLED"


class SettingsInvalid(CoherenceError):
    """The configuration can't be served; the message says which setting and what to do. Raised at start only."""


class DataRefused(CoherenceError):
    """The data directory can't be served as it is; the message names the command to run. Raised at start only."""
