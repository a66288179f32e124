"""Every unary call ends: at its caller's deadline, after 10 s at most, after 3 s when the caller named none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coherence_grpc.convert.calls import MARGIN_S, cut
from coherence_grpc.deadline import impose
from coherence_grpc.errors import StoreTimeout

if TYPE_CHECKING:
    from coherence_grpc.convert.calls import Call

DEFAULT_S: Final = 3.0
CAP_S: Final = 10.0
# Stores are told to the millisecond how long they may take; this catches what waits for something else.
SWEEP_S: Final = 0.05


class Deadlines:
    """Ends calls whose time has run out. One timer for all: a timer a call costs as much as anything else here."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: set[Call] = set()
        self._sweeping = False

    def impose(self, call: Call, remaining_s: float | None, now: float) -> None:
        """The call ends in time; `remaining_s` is what its caller allows, None when it named no deadline."""
        call.ends_at = now + (DEFAULT_S if remaining_s is None else min(remaining_s, CAP_S))
        impose(call.ends_at - MARGIN_S)
        self._calls.add(call)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_S, self._sweep)

    def lift(self, call: Call) -> None:
        """The call has ended by itself."""
        self._calls.discard(call)

    def _sweep(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls if call.ends_at is not None and call.ends_at <= now]:
            self._calls.discard(call)
            cut(call, StoreTimeout(f"no answer in time; try again, or allow more (at most {CAP_S:.0f} s)"))
        self._sweeping = bool(self._calls)
        if self._sweeping:
            self._loop.call_later(SWEEP_S, self._sweep)
