"""The words of the domain: signals, entries of the log, provenance, scores. Frozen values, no behaviour.

Instants are integers: microseconds since 1970-01-01T00:00Z. A `value_q` or `weight_q` is the value or weight times 10⁹,
rounded half-even: what is stored, hashed and scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.errors import CoherenceError

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
WINDOW: Final = DAY
QUANTUM: Final = 10**9
EARLIEST_TS: Final = 0
GENESIS: Final = bytes(32)


class Purpose(StrEnum):
    """What signals may be used for."""

    BENCHMARKING = "benchmarking"
    DEMO = "demo"


class Retention(StrEnum):
    """How long a signal's body is kept, counted from its ts."""

    SHORT = "short-30d"
    STANDARD = "standard-365d"
    LONG = "long-1825d"
    UNLIMITED = "unlimited"


RETENTION_US: Final[Mapping[Retention, int | None]] = {
    Retention.SHORT: 30 * DAY,
    Retention.STANDARD: 365 * DAY,
    Retention.LONG: 1825 * DAY,
    Retention.UNLIMITED: None,
}


class License(StrEnum):
    """The terms signals came under."""

    RESTRICTED_TOS = "Restricted-TOS"


class Residency(StrEnum):
    """Where signals must stay."""

    US = "US"


@dataclass(frozen=True, slots=True)
class Tags:
    """The policy tags of one request."""

    purpose: Purpose = Purpose.BENCHMARKING
    retention: Retention = Retention.STANDARD
    license: License = License.RESTRICTED_TOS
    residency: Residency = Residency.US


class Key(NamedTuple):
    """What identifies a signal."""

    tenant_id: str
    source: str
    signal_id: str
    ts: int


class Item(NamedTuple):
    """A normalised signal of a tenant that the context names."""

    source: str
    signal_id: str
    type: str
    value_q: int
    weight_q: int
    ts: int


class Draft(NamedTuple):
    """A signal as the caller sent it, without its signal_id ('') or its instant (None). One with both is an Item."""

    source: str
    signal_id: str
    type: str
    value_q: int
    weight_q: int
    ts: int | None


class EntryKind(IntEnum):
    """Kinds of log entries. The numbers are part of the ledger's encoding: add, never change."""

    STORED = 1
    REPLACED = 2
    POLICY = 3
    RECOMPUTE = 4
    PRUNED = 5


class Outcome(StrEnum):
    """What became of a signal that was not refused."""

    STORED = "STORED"
    DUPLICATE = "DUPLICATE"
    REPLACED = "REPLACED"


class OnConflict(IntEnum):
    """What becomes of a signal whose key is stored with another payload. The numbers are hashed: add, never change."""

    REJECT = 0
    REPLACE = 1


class Result(NamedTuple):
    """What became of one signal of a request: an outcome with its entry, or an error with seq 0.

    `item` is the signal as stored (ids and ts filled in); None when it was refused.
    """

    outcome: Outcome | None
    seq: int
    provenance_id: str
    item: Item | None
    error: CoherenceError | None = None


class Head(NamedTuple):
    """Where a tenant's log stands: `seq` 0 and the zero hash before the first entry."""

    epoch: int
    seq: int
    head_hash: bytes


@dataclass(frozen=True, slots=True)
class Provenance:
    """The immutable record of one request that stored something."""

    provenance_id: str
    tenant_id: str
    request_id: str
    request_hash: bytes
    tags: Tags
    principal: str
    transport: str
    received_at: int
    traceparent: str
    backfill: bool


@dataclass(frozen=True, slots=True)
class Write:
    """One request's signals for one tenant, ready to commit.

    `items` are the good ones in request order, `payloads` their ledger encodings, `positions` their indexes in the
    request; `refused` holds the error of every other index.
    """

    provenance: Provenance
    items: Sequence[Item]
    payloads: Sequence[bytes]
    positions: Sequence[int]
    refused: Mapping[int, CoherenceError]
    on_conflict: OnConflict = OnConflict.REJECT

    @property
    def tenant_id(self) -> str:
        """Whose log it goes to."""
        return self.provenance.tenant_id


class Appended(NamedTuple):
    """What a committed write did.

    `results` has one Result per index of the request. `stored` are the new entries' items, numbered
    `first_seq`, `first_seq` + 1, …, with the chain's hash after each in `hashes`; empty for a pure replay.
    `head` is the tenant's head after the commit. `superseded` holds, by position in `stored`, what an entry took the
    place of; such an entry is of the kind REPLACED.
    """

    write: Write
    results: Sequence[Result]
    first_seq: int
    stored: Sequence[Item]
    hashes: Sequence[bytes]
    recorded_at: int
    head: Head
    superseded: Mapping[int, Item] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tenant's log. `item` is None when the body was erased or the kind carries no signal.

    `superseded` is what a REPLACED entry took the place of; None when its body was erased. `payload` is the body of an
    entry of a kind that carries no signal, and empty for the others.
    """

    tenant_id: str
    seq: int
    kind: EntryKind
    item: Item | None
    erased: bool
    provenance_id: str
    recorded_at: int
    head_hash: bytes
    backfill: bool
    traceparent: str
    superseded: Item | None = None
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal as the log holds it."""

    tenant_id: str
    item: Item
    seq: int
    provenance_id: str
    recorded_at: int
    head_hash: bytes
    backfill: bool


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One entry as the ledger sees it: everything its hash covers. `payload` is None when the body was erased."""

    seq: int
    epoch: int
    kind: int
    payload: bytes | None
    superseded: bytes
    recorded_at: int
    provenance_digest: bytes
    entry_hash: bytes
    head_hash: bytes


class Status(StrEnum):
    """The word for a score."""

    HEALTHY = "HEALTHY"
    WARN = "WARN"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


class Held(NamedTuple):
    """The status that is shown and alerted on, since when, and what would take its place if it lasted.

    `since` None: not known. `pending` has for each status beyond the held one, in the direction in which the score is
    now, the instant since which the score has been at least that far.
    """

    status: Status
    since: int | None
    pending: tuple[tuple[Status, int], ...] = ()


class ScoreSource(StrEnum):
    """Where a score came from."""

    CACHE = "CACHE"
    MATERIALIZED = "MATERIALIZED"
    COMPUTED = "COMPUTED"


@dataclass(frozen=True, slots=True)
class Score:
    """One tenant's score at one instant.

    `score_ppm` is the score times 10⁶, None when UNKNOWN; `weight_q` the sum of the weights; `version` that of the
    last published row (0: none yet). `backfill`: only backfilled signals moved it. `status_changed`: the held status is
    another than that of the row before. `held` is None as of a past instant, under a policy by which it depends on what
    was before.
    """

    tenant_id: str
    score_ppm: int | None
    status: Status
    signal_count: int
    weight_q: int
    window_start: int
    window_end: int
    data_time: int | None
    valid_until: int | None
    as_of_seq: int
    head_hash: bytes
    signal_epoch: int
    score_epoch: int
    version: int
    computed_at: int
    source: ScoreSource
    policy_etag: str = ""
    stale: bool = False
    backfill: bool = False
    status_changed: bool = False
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and how: `tenants` None means all; `transport` is grpc, http, graphql or import."""

    principal: str
    scopes: frozenset[str]
    tenants: frozenset[str] | None
    transport: str
    traceparent: str = ""
