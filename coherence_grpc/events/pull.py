"""A pull: the same events by a unary call that waits for the first one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coherence_grpc.events.frames import Batch, ClosingReason, Event, Gap, Pulled

if TYPE_CHECKING:
    from coherence_grpc.events.frames import EventFilter, Start
    from coherence_grpc.events.reader import Reader
    from coherence_grpc.events.tails import Tails

# What one call looks at, when the filter lets nothing through: the caller goes on with the next cursor.
_STRETCHES: Final = 32


class Pull:
    """One call's way from a start to its events."""

    def __init__(self, tails: Tails, tenant_id: str, filter: EventFilter, max_events: int) -> None:  # noqa: A002 - the contract's word
        self._tails = tails
        self._tenant_id = tenant_id
        self._filter = filter
        self._max_events = max_events
        self._woken = asyncio.Event()
        self._events: list[Event] = []
        self._gaps: list[Gap] = []

    def wake(self, turn: int) -> bool:  # noqa: ARG002 - one call is no measure of what a turn costs
        """The ring has more to see."""
        self._woken.set()
        return False

    def close(self, reason: ClosingReason) -> None:  # noqa: ARG002 - the caller gets what there is, and pulls elsewhere
        """Wait no longer."""
        self._woken.set()

    async def run(self, start: Start, wait_s: float) -> Pulled:
        """The next events, or none when the wait is over."""
        self._tails.enter(self)
        try:
            cursor = await self._tails.log.resolve(self._tenant_id, start)
            newest = await self._tails.log.latest(self._tenant_id)
            stand = self._tails.stand(self._tenant_id, self, self._filter, cursor, newest=newest)
            try:
                await self._collect(stand.reader, asyncio.get_running_loop().time() + wait_s)
            finally:
                stand.leave()
        finally:
            self._tails.leave(self)
        return Pulled(self._events, stand.reader.cursor, self._gaps, stand.reader.ready)

    async def _collect(self, reader: Reader, deadline: float) -> None:
        for _ in range(_STRETCHES):
            if len(self._events) >= self._max_events:
                break
            if reader.ready:
                self._take(await reader.advance(self._max_events - len(self._events)))
            elif self._events or self._gaps or not await self._wait(deadline):
                break
        self._take(reader.take_gap())

    def _take(self, frame: Batch | Gap | None) -> None:
        if isinstance(frame, Batch):
            self._events.extend(frame.events)
        elif frame is not None:
            self._gaps.append(frame)

    async def _wait(self, deadline: float) -> bool:
        """True when there may be more, False when the time is over or the server drains."""
        self._woken.clear()
        if self._tails.draining:
            return False
        try:
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True
