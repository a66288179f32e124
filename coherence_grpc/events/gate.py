"""The gate: lets the readers of a tail see what it has gathered, at once when idle, in windows when busy.

How long to gather is measured, not configured: a multiple of the time that the readers took to come back after the
last opening, at most the window they asked for. A fixed window would be latency for nothing on an idle machine.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from coherence_grpc.events.ring import Ring

# Windows are shared by rounding down to one of these, so that a tail has few gates.
_WINDOWS_S: Final = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
# Gather for this many times what one turn costs: at 1000 readers more only adds latency, below 1 turns overlap.
_PACE: Final = 1.25


class Listener(Protocol):
    """Who stands behind a gate."""

    def wake(self, turn: int) -> bool:
        """The ring has more to see; True if the listener was waiting and will answer this turn of the gate."""
        ...


def window(coalesce_s: float) -> float:
    """The window that is used for a wanted one: the next smaller of a few."""
    return next((w for w in _WINDOWS_S if w <= coalesce_s), 0.0)


class Gate:
    """Readers of one window; they see the ring up to `shown`."""

    def __init__(self, ring: Ring, window_s: float) -> None:
        self.shown = ring.end
        self.members: set[Listener] = set()
        self._ring = ring
        self._window_s = window_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._opened_at = 0.0
        self._cost_s = 0.0
        self._measured_s = 0.0
        self._turn = 0
        self._awaited = 0

    def poke(self) -> None:
        """The ring has grown: open now, or when the window since the last opening is over."""
        if self._timer is not None:
            return
        since_s = monotonic() - self._opened_at
        wait_s = min(self._window_s, _PACE * self._cost(since_s)) - since_s
        if wait_s <= 0:
            self._open()
        else:
            self._timer = self._loop.call_later(wait_s, self._open)

    def show(self) -> None:
        """Let readers that look now see everything, without waking the others."""
        self.shown = self._ring.end

    def answered(self, turn: int) -> None:
        """A woken reader has dealt with what it saw and waits again."""
        if turn != self._turn or not self._awaited:
            return
        self._awaited -= 1
        if not self._awaited:
            # Half are back: twice that time is what a turn costs, whatever a few slow readers do.
            measured_s = 2 * (monotonic() - self._opened_at)
            # One long turn alone is the machine's hiccup, not what readers cost.
            self._cost_s, self._measured_s = min(measured_s, self._measured_s), measured_s

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cost(self, since_s: float) -> float:
        return max(self._cost_s, 2 * since_s) if self._awaited else self._cost_s

    def _open(self) -> None:
        self._timer = None
        # The loop's own time may be a turn old, and counts milliseconds.
        self._opened_at = monotonic()
        self._turn += 1
        self.shown = self._ring.end
        woken = sum([member.wake(self._turn) for member in self.members])
        self._awaited = (woken + 1) // 2
