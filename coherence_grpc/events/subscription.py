"""A subscription: one tenant's frames, from a start, as an async iterator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.events.frames import Bookmark, Closing, ClosingReason, Opened
from coherence_grpc.events.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.events.frames import EventFilter, Frame, Start
    from coherence_grpc.events.tails import Stand, Tails
    from coherence_grpc.ports import Clock
    from coherence_grpc.tokens import Cursor

# One that could not follow is asked to breathe; the others are wanted back at once.
_RETRY_S: Final = {ClosingReason.LAGGED: 1.0, ClosingReason.DRAINING: 0.0, ClosingReason.MAX_AGE: 0.0}


class Subscription(Stream["Frame"]):
    """Opened first, then what happens; the last frame is Closing, unless the consumer leaves before.

    Positions are taken when the first frame is asked for.
    """

    def __init__(
        self,
        tails: Tails,
        clock: Clock,
        tenant_id: str,
        start: Start,
        filter: EventFilter,  # noqa: A002 - the contract's word
        *,
        coalesce_s: float,
        max_batch: int,
        heartbeat_s: float,
        lag_s: float,
        max_age_s: float,
        on_lagged: Callable[[Cursor], None] | None,
    ) -> None:
        super().__init__(tails, lag_s=lag_s, heartbeat_s=heartbeat_s, max_age_s=max_age_s)
        self._clock = clock
        self._tenant_id = tenant_id
        self._start = start
        self._filter = filter
        self._coalesce_s = coalesce_s
        self._max_batch = max_batch
        self._on_lagged = on_lagged
        self._stand: Stand | None = None
        self._turn = 0
        self._cursor: Cursor | None = None
        self._written: Cursor | None = None

    @property
    def resume_cursor(self) -> Cursor | None:
        """Where to resume when the stream ends by an error: the frame being handed over doesn't count as received.

        None before the stream is open.
        """
        return self._written

    def wake(self, turn: int) -> bool:
        """The ring has more to see."""
        if not self._rouse():
            return False
        self._turn = turn
        return True

    async def _next(self) -> Frame:
        # Asking for more says that the frame before was taken.
        self._written = self._cursor
        if self._cursor is None:
            return await self._open()
        if self._stand is not None and self._closing is None:
            frame = await self._frame(self._stand)
            if frame is not None:
                return frame
        return self._end(self._cursor)

    async def _open(self) -> Opened:
        log = self._tails.log
        self._enter()
        cursor = await log.resolve(self._tenant_id, self._start)
        earliest = await log.earliest(self._tenant_id)
        newest = await log.latest(self._tenant_id)
        self._stand = self._tails.stand(
            self._tenant_id, self, self._filter, cursor, newest=newest, coalesce_s=self._coalesce_s
        )
        self._cursor = self._written = cursor
        return Opened(cursor, earliest)

    async def _frame(self, stand: Stand) -> Frame | None:
        """The next frame; None when the stream is to be closed."""
        reader = stand.reader
        while self._closing is None:
            frame: Frame | None = await reader.advance(self._max_batch) if reader.ready else None
            if frame is None and self._beat_due:
                frame = await self._beat(stand)
            if frame is not None:
                self._cursor = reader.cursor
                return frame
            if not reader.ready:
                await self._rest(stand)
        return None

    async def _beat(self, stand: Stand) -> Frame:
        """A bookmark; it moves over what this subscriber is not woken for."""
        reader = stand.reader
        stand.gate.show()
        frame = await reader.advance(self._max_batch) if reader.joined and reader.ready else None
        return frame or Bookmark(reader.cursor, self._clock.now())

    async def _rest(self, stand: Stand) -> None:
        turn, self._turn = self._turn, 0
        if turn:
            stand.gate.answered(turn)
        await self._sleep()

    def _end(self, cursor: Cursor) -> Closing:
        reason = self._closing or ClosingReason.DRAINING
        self._over = True
        self._let_go()
        return Closing(reason, cursor, _RETRY_S[reason])

    def _leave(self) -> None:
        stand, self._stand = self._stand, None
        if stand is not None:
            stand.leave()

    def _lagged(self) -> None:
        if self._on_lagged is not None and self._written is not None:
            self._on_lagged(self._written)
