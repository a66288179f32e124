"""What every stream of the hub does: it waits to be woken, notices a consumer that takes nothing, and is closed."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from coherence_grpc.events.frames import ClosingReason

if TYPE_CHECKING:
    from typing import Self

    from coherence_grpc.events.tails import Tails

T = TypeVar("T")

# A bookmark is made this much before it is due, so that it is there in time.
_EARLY: Final = 0.9


class Stream(ABC, Generic[T]):
    """An async iterator over what the hub sends to one consumer.

    The consumer is busy from the moment it is handed something until it asks for more. Busy for `lag_s`, it has
    lagged: the stream lets go of all it holds and calls `_lagged`, since a consumer that is stuck in a write does not
    hear the iterator. Leave it by `aclose()` or as a context manager; a wait for it that is cancelled ends it too.
    """

    def __init__(self, tails: Tails, *, lag_s: float, heartbeat_s: float = inf, max_age_s: float = inf) -> None:
        self._tails = tails
        self._loop = asyncio.get_running_loop()
        self._lag_s = lag_s
        self._beat_s = heartbeat_s * _EARLY
        self._expires_at = self._loop.time() + max_age_s
        self._busy = False
        self._handed_at = self._loop.time()
        self._beat_due = False
        self._closing: ClosingReason | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        self._busy = False
        try:
            handed = await self._next()
        except BaseException:
            await self.aclose()
            raise
        self._hand_over()
        return handed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream at once."""
        self._over = True
        self._let_go()

    def close(self, reason: ClosingReason) -> None:
        """End the stream with what its consumer is told, once it asks for more."""
        if self._closing is None:
            self._closing = reason
            self._rouse()

    @abstractmethod
    async def _next(self) -> T:
        """What to hand over next."""

    @abstractmethod
    def _leave(self) -> None:
        """Give up every stand."""

    @abstractmethod
    def _lagged(self) -> None:
        """The consumer has lagged; all was let go."""

    def _hand_over(self) -> None:
        self._busy, self._beat_due = True, False
        self._handed_at = self._loop.time()

    def _enter(self) -> None:
        self._tails.enter(self)
        self._arm()

    def _let_go(self) -> None:
        self._tails.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leave()

    def _rouse(self) -> bool:
        """Wake the consumer if it waits; True if it did."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        waiter.set_result(None)
        return True

    async def _sleep(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(self) -> None:
        """One timer a stream, never later than what may come due; handing over a frame doesn't touch it."""
        now = self._loop.time()
        dues = (self._handed_at + self._beat_s, self._handed_at + self._lag_s, self._expires_at)
        latest = now + min(self._beat_s, self._lag_s)
        self._timer = self._loop.call_at(min([latest, *(due for due in dues if due > now)]), self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now >= self._expires_at:
            self._expires_at = inf
            self.close(ClosingReason.MAX_AGE)
        if self._busy and now - self._handed_at >= self._lag_s:
            self._closing = ClosingReason.LAGGED
            self._let_go()
            self._lagged()
            return
        if now - self._handed_at >= self._beat_s:
            self._beat_due = True
            self._rouse()
        self._arm()
