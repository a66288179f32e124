"""What every sliding window can say of itself, whatever its rows are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coherence_grpc.policy import ScorePolicy


class Rows(Protocol):
    """Signals sorted by ts."""

    count: int

    @property
    def first_ts(self) -> int | None:
        """The oldest ts."""
        ...

    @property
    def last_ts(self) -> int | None:
        """The newest ts."""
        ...

    @property
    def allocated_bytes(self) -> int:
        """What they take in memory."""
        ...


class Sliding:
    """The signals with `now` − window ≤ ts ≤ `now`, inside, and those dated ahead, waiting."""

    __slots__ = ("_ahead", "_inside", "_span", "now", "policy")

    _inside: Rows
    _ahead: Rows

    def __init__(self, policy: ScorePolicy, now: int) -> None:
        self.policy = policy
        self.now = now
        self._span = policy.window_us

    @property
    def data_time(self) -> int | None:
        """The newest ts inside."""
        return self._inside.last_ts

    @property
    def valid_until(self) -> int | None:
        """The first instant after `now` at which time alone changes what is inside; None when nothing will."""
        oldest, due = self._inside.first_ts, self._ahead.first_ts
        if oldest is None:
            return due
        expiry = oldest + self._span + 1
        return expiry if due is None else min(expiry, due)

    @property
    def size(self) -> int:
        """How many signals it holds, those ahead included."""
        return self._inside.count + self._ahead.count

    @property
    def allocated_bytes(self) -> int:
        """What its rows take in memory."""
        return self._inside.allocated_bytes + self._ahead.allocated_bytes
