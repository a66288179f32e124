"""The words of the event streams: events, the frames they travel in, and what narrows and places a read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Item, Score, Status, StoredSignal
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.tokens import Cursor


class EventKind(StrEnum):
    """What happened."""

    SIGNAL_STORED = "SIGNAL_STORED"
    SIGNAL_REPLACED = "SIGNAL_REPLACED"
    SCORE_UPDATED = "SCORE_UPDATED"
    SCORE_STATUS_CHANGED = "SCORE_STATUS_CHANGED"
    POLICY_UPDATED = "POLICY_UPDATED"


SIGNAL_KINDS = frozenset({EventKind.SIGNAL_STORED, EventKind.SIGNAL_REPLACED})
SCORE_KINDS = frozenset({EventKind.SCORE_UPDATED, EventKind.SCORE_STATUS_CHANGED})


class Position(StrEnum):
    """A named place in a tenant's events: the oldest that is retained, or only what comes from now on."""

    EARLIEST = "EARLIEST"
    LATEST = "LATEST"


# A cursor starts after what it has seen; an instant (microseconds) at what was recorded at or after it.
Start: TypeAlias = "Cursor | int | Position"


@dataclass(slots=True, eq=False)
class Event:
    """One thing that happened, the same object for every subscriber; `cursor` is the position after it.

    It carries a signal, a score or a policy, by its kind; `superseded` is what a SIGNAL_REPLACED took the place of,
    None when its body was erased. `wire` is where the edge keeps what it made of the event.
    """

    tenant_id: str
    kind: EventKind
    cursor: Cursor
    occurred_at: int
    recorded_at: int
    signal: StoredSignal | None = None
    score: Score | None = None
    traceparent: str = ""
    superseded: Item | None = None
    policy: PolicyVersion | None = None
    wire: object | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Narrows the events: empty or None does not narrow.

    Sources, types and values narrow signals, statuses narrow scores. The cursor moves over what is filtered out.
    """

    kinds: frozenset[EventKind] = frozenset()
    sources: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    min_value_q: int | None = None
    max_value_q: int | None = None
    statuses: frozenset[Status] = frozenset()

    @property
    def signals(self) -> bool:
        """Signals are wanted at all."""
        return not self.kinds or not SIGNAL_KINDS.isdisjoint(self.kinds)

    @property
    def policies(self) -> bool:
        """Changes of the policy are wanted."""
        return not self.kinds or EventKind.POLICY_UPDATED in self.kinds

    @property
    def entries(self) -> bool:
        """Something is wanted that stands in the log of signals."""
        return self.signals or self.policies

    @property
    def narrows_signals(self) -> bool:
        """Some signals don't pass."""
        return (
            bool(self.sources or self.types)
            or self.min_value_q is not None
            or self.max_value_q is not None
            or (bool(self.kinds) and not self.kinds >= SIGNAL_KINDS)
        )

    def takes_signal(self, item: Item, kind: EventKind) -> bool:
        """The signal passes, given that signals are wanted."""
        return (
            (not self.kinds or kind in self.kinds)
            and (not self.sources or item.source in self.sources)
            and (not self.types or item.type in self.types)
            and (self.min_value_q is None or item.value_q >= self.min_value_q)
            and (self.max_value_q is None or item.value_q <= self.max_value_q)
        )

    def takes_score(self, event: Event) -> bool:
        """The score event passes."""
        if self.kinds and event.kind not in self.kinds:
            return False
        return not self.statuses or (event.score is not None and event.score.status in self.statuses)


class Opened(NamedTuple):
    """The first frame: events come from `cursor` on; `earliest` is the oldest position that can still be read."""

    cursor: Cursor
    earliest: Cursor


@dataclass(slots=True, eq=False)
class Batch:
    """At least one event, in order; the same object for subscribers that stand at the same place.

    `wire` is where the edge keeps what it made of the batch.
    """

    events: Sequence[Event]
    wire: object | None = field(default=None)


class Bookmark(NamedTuple):
    """The stream is alive and everything up to `cursor` was sent; `at` is the domain's present."""

    cursor: Cursor
    at: int


class Gap(NamedTuple):
    """Entries whose bodies were erased, from `from_seq` to `to_seq`; `cursor` is the position after them."""

    from_seq: int
    to_seq: int
    cursor: Cursor
    reason: str


class ClosingReason(StrEnum):
    """Why the hub ends a stream."""

    DRAINING = "DRAINING"
    LAGGED = "LAGGED"
    MAX_AGE = "MAX_AGE"


class Closing(NamedTuple):
    """The last frame: nothing is lost when the reader resumes after `retry_delay_s`."""

    reason: ClosingReason
    resume_cursor: Cursor
    retry_delay_s: float


Frame: TypeAlias = Opened | Batch | Bookmark | Gap | Closing


class Pulled(NamedTuple):
    """What a pull found: `cursor` is where to go on, `more` can be read at once when `has_more`."""

    events: Sequence[Event]
    cursor: Cursor
    gaps: Sequence[Gap]
    has_more: bool


class Positions(NamedTuple):
    """A place, and the range that can be read: `earliest_seq` is the oldest entry with its body, 0 for none."""

    cursor: Cursor
    earliest: Cursor
    latest: Cursor
    earliest_seq: int
    latest_seq: int
