"""What a stream of signals is made of: the frames that come, and those that go."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import OnConflict, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.ingest.publication import Publication
    from coherence_grpc.model import Appended, Head, Tags

# An Ack is a message too: what more was refused goes into the next one.
ACK_REJECTIONS: Final = 500


class Opening(NamedTuple):
    """How a stream is opened: everything that its batches have in common."""

    tenant_id: str
    stream_id: str
    acked_through: int
    tags: Tags
    backfill: bool = False
    on_conflict: OnConflict = OnConflict.REJECT

    def request_id(self, sequence: int) -> str:
        """That of a batch."""
        return f"{self.stream_id}:{sequence}"


class Batch(NamedTuple):
    """The next signals."""

    sequence: int
    publication: Publication


class Flush(NamedTuple):
    """Asks for an Ack of everything before it."""


class Opened(NamedTuple):
    """The first frame: how many signals may be unacknowledged."""

    acked_through: int
    credits: int


class Rejection(NamedTuple):
    """A signal that was refused, by its batch and its position in it."""

    sequence: int
    position: int
    error: CoherenceError


class Ack(NamedTuple):
    """Every batch up to `acked_through` is stored, but for what was refused; the counts are since the Ack before.

    `head` is None when nothing was stored on the stream yet.
    """

    acked_through: int
    stored: int
    duplicates: int
    replaced: int
    rejections: Sequence[Rejection]
    head: Head | None


class Credit(NamedTuple):
    """Another number of signals may be unacknowledged."""

    credits: int


class Throttle(NamedTuple):
    """The store can't keep up, or is away."""

    retry_delay_s: float
    reason: str


class ClosingReason(StrEnum):
    """Why a stream ends."""

    DRAINING = "DRAINING"
    MAX_AGE = "MAX_AGE"
    COMPLETE = "COMPLETE"


class Closing(NamedTuple):
    """The last frame."""

    acked_through: int
    reason: ClosingReason


Received = Batch | Flush
Sent = Opened | Ack | Credit | Throttle | Closing


class Tally:
    """What became of the batches since the Ack before; `since` is when the first of them was stored."""

    __slots__ = ("duplicates", "head", "rejections", "replaced", "signals", "since", "stored", "through")

    def __init__(self, since: float) -> None:
        self.since = since
        self.through = 0
        self.signals = 0
        self.stored = 0
        self.duplicates = 0
        self.replaced = 0
        self.rejections: list[Rejection] = []
        self.head: Head | None = None

    def add(self, sequence: int, appended: Appended) -> None:
        """A batch more."""
        results = appended.results
        replaced = len(appended.superseded)
        self.through, self.head = sequence, appended.head
        self.signals += len(results)
        self.stored += len(appended.stored) - replaced
        self.replaced += replaced
        if len(appended.stored) == len(results):
            return
        for index, result in enumerate(results):
            if result.error is not None:
                self.rejections.append(Rejection(sequence, index, result.error))
            elif result.outcome is Outcome.DUPLICATE:
                self.duplicates += 1

    @property
    def full(self) -> bool:
        """No other batch fits."""
        return len(self.rejections) >= ACK_REJECTIONS

    def ack(self) -> Ack:
        """The Ack that says so."""
        return Ack(self.through, self.stored, self.duplicates, self.replaced, self.rejections, self.head)
