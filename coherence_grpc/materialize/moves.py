"""When time alone will move a score next, and to what."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.held import dwell_ends, follow
from coherence_grpc.rules import stale_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coherence_grpc.materialize.weighing import Weighing
    from coherence_grpc.model import Held, Status
    from coherence_grpc.rules import Verdict

MOST: Final = 5


class MoveReason(StrEnum):
    """Why a score will move by itself."""

    EXPIRY = "EXPIRY"
    ACTIVATION = "ACTIVATION"
    STALE = "STALE"
    DWELL = "DWELL"


class NextMove(NamedTuple):
    """What will hold from `instant` on; `signal_count` is of those that come or go, `held_status` None: not known."""

    instant: int
    reason: MoveReason
    signal_count: int
    score_ppm: int | None
    status: Status
    held_status: Status | None


class _Future:
    """A window that moves on: rows `first` to before `due` are inside."""

    def __init__(self, weighing: Weighing, held: Held | None) -> None:
        self._policy = weighing.policy
        self._tally = weighing.fresh_tally()
        self._rows = weighing.rows.followed_by(weighing.ahead)
        self._first = 0
        self._due = len(weighing.rows.ts)
        self._now = weighing.now
        self.held = held

    @property
    def changes(self) -> Mapping[MoveReason, int]:
        """The next instant for each reason that there is."""
        found = {
            MoveReason.EXPIRY: self._ts(self._first) + self._policy.window_us + 1 if self._first < self._due else None,
            MoveReason.ACTIVATION: self._ts(self._due) if self._due < len(self._rows.ts) else None,
            MoveReason.STALE: stale_at(self._policy, self._data_time, self._now),
            MoveReason.DWELL: dwell_ends(self.held, self._policy),
        }
        return {reason: instant for reason, instant in found.items() if instant is not None}

    def advance(self, instant: int) -> Mapping[MoveReason, int]:
        """Moves on to the instant; how many signals come and go."""
        first, due = self._first, self._due
        while self._due < len(self._rows.ts) and self._ts(self._due) <= instant:
            self._tally.add(*self._rows.signal(self._due))
            self._due += 1
        while self._first < self._due and self._ts(self._first) < instant - self._policy.window_us:
            self._tally.remove(*self._rows.signal(self._first))
            self._first += 1
        self._now = instant
        return {MoveReason.EXPIRY: self._first - first, MoveReason.ACTIVATION: self._due - due}

    def verdict(self) -> Verdict:
        """What the policy makes of what is inside."""
        return self._tally.verdict(data_time=self._data_time, now=self._now)

    @property
    def _data_time(self) -> int | None:
        return self._ts(self._due - 1) if self._first < self._due else None

    def _ts(self, row: int) -> int:
        return self._rows.ts[row]


def next_moves(weighing: Weighing, held: Held | None) -> Sequence[NextMove]:
    """The first instants at which time moves the score, one entry for each reason, at most MOST.

    `held` is what is held now; None: that is not known, nor what will be.
    """
    moves: list[NextMove] = []
    for instant_moves in _moves(_Future(weighing, held), weighing):
        moves += instant_moves
        if len(moves) >= MOST:
            break
    return moves[:MOST]


def _moves(future: _Future, weighing: Weighing) -> Iterator[Sequence[NextMove]]:
    while changes := future.changes:
        instant = min(changes.values())
        if weighing.known_until is not None and instant > weighing.known_until:
            return
        counts = future.advance(instant)
        verdict = future.verdict()
        if future.held is not None:
            future.held = follow(future.held, weighing.policy, verdict, instant)
        yield [
            NextMove(
                instant,
                reason,
                counts.get(reason, 0),
                verdict.score_ppm,
                verdict.status,
                None if future.held is None else future.held.status,
            )
            for reason, due in changes.items()
            if due == instant
        ]


def next_change(weighing: Weighing) -> int | None:
    """The first instant after now at which signals come or go."""
    instants = weighing.ahead.ts[:1]
    if weighing.known_until is not None:
        instants.append(weighing.known_until + 1)
    if weighing.rows.ts:
        instants.append(weighing.rows.ts[0] + weighing.policy.window_us + 1)
    return min(instants, default=None)
