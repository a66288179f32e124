"""What the client gives and takes: plain values, immutable, with instants in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from coherence_grpc.client.policies import ScorePolicy

Purpose = Literal["benchmarking", "demo"]
Retention = Literal["short-30d", "standard-365d", "long-1825d", "unlimited"]


class Status(StrEnum):
    """The word for a score."""

    HEALTHY = "HEALTHY"
    WARN = "WARN"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


class Trend(StrEnum):
    """Where a score is going: at least 0.01 from that of an hour earlier, or not."""

    UP = "UP"
    DOWN = "DOWN"
    FLAT = "FLAT"


class ScoreSource(StrEnum):
    """Where a score came from."""

    CACHE = "CACHE"
    MATERIALIZED = "MATERIALIZED"
    COMPUTED = "COMPUTED"


class ScoreOrder(StrEnum):
    """In what order scores are listed."""

    WORST_FIRST = "WORST_FIRST"
    BEST_FIRST = "BEST_FIRST"
    TENANT_ID = "TENANT_ID"
    LAST_CHANGED = "LAST_CHANGED"


class Outcome(StrEnum):
    """What became of a signal."""

    STORED = "STORED"
    DUPLICATE = "DUPLICATE"
    REPLACED = "REPLACED"


class EventKind(StrEnum):
    """What happened."""

    SIGNAL_STORED = "SIGNAL_STORED"
    SIGNAL_REPLACED = "SIGNAL_REPLACED"
    SCORE_UPDATED = "SCORE_UPDATED"
    SCORE_STATUS_CHANGED = "SCORE_STATUS_CHANGED"
    POLICY_UPDATED = "POLICY_UPDATED"


@dataclass(frozen=True, slots=True)
class Tags:
    """The policy tags of what is published; None leaves one to the server's default."""

    purpose: Purpose | None = None
    retention: Retention | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """One weighted observation: `value` 0 (incoherent) to 1 (coherent), `weight` 0 (muted) to 1000.

    Without `ts` it is dated when the server sees it first, or, through a Publisher, when it is put; `signal_id` is then
    made up as well.
    """

    source: str
    type: str
    value: float
    weight: float = 1.0
    ts: datetime | None = None
    signal_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal as the log holds it; `backfill` means that nobody should be alerted about it."""

    tenant_id: str
    signal: Signal
    seq: int
    provenance_id: str
    cursor: str
    recorded_time: datetime
    backfill: bool


@dataclass(frozen=True, slots=True)
class Score:
    """One tenant's score at `window_end`; `score` is None exactly when the status is UNKNOWN.

    `held_status` is what is shown and alerted on, after the policy's hysteresis and dwell. From `valid_until` on time
    alone changes the score. `revision` is for reads that must see at least this, `cursor` for events after this; both
    are '' where the call does not tell. `trend` is told in lists only.
    """

    tenant_id: str
    score: float | None
    status: Status
    held_status: Status | None
    held_since: datetime | None
    signal_count: int
    weight_sum: float
    window_start: datetime
    window_end: datetime
    data_time: datetime | None
    valid_until: datetime | None
    as_of_seq: int
    head_hash: bytes
    version: int
    policy_etag: str
    computed_time: datetime
    source: ScoreSource | None
    stale: bool
    trend: Trend | None = None
    cursor: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a signal: its key, its number in the log and the record of the request that stored it first.

    `score` is set when the call waited for it; `score_pending` says that it will follow.
    """

    outcome: Outcome
    signal_id: str
    ts: datetime | None
    seq: int
    provenance_id: str
    revision: str
    score: Score | None = None
    score_pending: bool = False


@dataclass(frozen=True, slots=True)
class ScoreUpdate:
    """A score that a watch brought.

    `initial`: it is the current one, not a change. `status_changed`: the held status differs from the one before.
    `resumed`: it is the first of its tenant after the connection was lost, and updates may have been passed over.
    """

    score: Score
    initial: bool
    status_changed: bool
    resumed: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; exactly one of `signal`, `score` and `policy` is set, by kind.

    `cursor` is the position after it. `superseded` is what stood under a replaced signal's key; None when its body was
    erased.
    """

    cursor: str
    tenant_id: str
    kind: EventKind
    occurred_time: datetime
    recorded_time: datetime
    signal: StoredSignal | None = None
    score: Score | None = None
    policy: ScorePolicy | None = None
    superseded: Signal | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries `from_seq` to `to_seq` can't be read any more, because retention erased their bodies."""

    from_seq: int
    to_seq: int
    cursor: str
    reason: str
