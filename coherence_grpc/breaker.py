"""What keeps a sick store from holding up its callers: a circuit breaker and a bulkhead, for one event loop each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from coherence_grpc.errors import (
    CoherenceError,
    Concurrency,
    OutcomeUnknown,
    OutOfTime,
    StoreBusy,
    StoreDown,
    StoreTimeout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

FAILURES: Final = (StoreDown, StoreTimeout, OutcomeUnknown)
SLICES: Final = 10

_log = logging.getLogger(__name__)


class _Rolling:
    """How many calls ended, and how many of them failed, over the last `window_s`; to a tenth of it."""

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._slices: deque[list[int]] = deque()

    def add(self, now: float, *, failed: bool) -> None:
        number = int(now / self._slice_s)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
            while self._slices[0][0] <= number - SLICES:
                self._slices.popleft()
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed

    def totals(self) -> tuple[int, int]:
        """Calls and failures, as of the last one added."""
        return sum(s[1] for s in self._slices), sum(s[2] for s in self._slices)

    def clear(self) -> None:
        self._slices.clear()


class Breaker:
    """Stops asking a store that fails, and lets a single call find out whether it is back.

    It opens when, of at least `minimum` calls that ended within `window_s`, the share `ratio` failed. For `open_s` it
    then refuses every call; after that it lets one through (half-open), whose success closes it and whose failure
    opens it anew. What was under way when it opened or closed counts for nothing: it tells of another time.
    """

    def __init__(
        self,
        name: str,
        *,
        window_s: float = 10.0,
        minimum: int = 10,
        ratio: float = 0.5,
        open_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._minimum = minimum
        self._ratio = ratio
        self._open_s = open_s
        self._monotonic = monotonic
        self._rolling = _Rolling(window_s)
        self._open_until: float | None = None
        self._probing = False
        # Raised by every change: a call counts only while the number is that of its beginning.
        self._generation = 0

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Whether calls go through: all, none, or one."""
        if self._open_until is None:
            return "closed"
        return "open" if self._monotonic() < self._open_until else "half-open"

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call of the store.

        StoreDown, StoreTimeout and OutcomeUnknown are failures. Success and any other refusal, StoreBusy too, show that
        the store answers. A call that is cancelled, whose caller is out of time, or that fails for another reason, says
        nothing: so the limit on its time belongs inside, where it raises StoreTimeout.

        Raises:
            StoreDown: at once, when the breaker is open; `retry_after_s` says until when.
        """
        generation = self._admit()
        try:
            yield
        except OutOfTime:
            self._withdraw(generation)
            raise
        except StoreBusy:
            self._settle(generation, None)
            raise
        except FAILURES as failure:
            self._settle(generation, failure)
            raise
        except CoherenceError:
            self._settle(generation, None)
            raise
        except BaseException:
            self._withdraw(generation)
            raise
        else:
            self._settle(generation, None)

    def trip(self) -> None:
        """Opens it at once: something else than its calls found the store away."""
        if self.state == "open":
            return
        self._change(opened=True)
        _log.warning("a store says nothing and is asked only now and then", extra={"fields": {"store": self._name}})

    def _admit(self) -> int:
        if self._open_until is None:
            return self._generation
        left = self._open_until - self._monotonic()
        if left > 0 or self._probing:
            message = f"{self._name} failed too often to be asked at the moment; check that it runs, or retry"
            raise StoreDown(message, retry_after_s=left if left > 0 else self._open_s)
        self._probing = True
        self._generation += 1
        return self._generation

    def _settle(self, generation: int, failure: CoherenceError | None) -> None:
        if generation != self._generation:
            return
        if self._probing:
            self._change(opened=failure is not None)
            if failure is None:
                _log.info("a store answers again", extra={"fields": {"store": self._name}})
            return
        self._rolling.add(self._monotonic(), failed=failure is not None)
        if failure is None:
            return
        calls, failures = self._rolling.totals()
        if calls >= self._minimum and failures >= self._ratio * calls:
            self._change(opened=True)
            fields = {"store": self._name, "calls": calls, "failed": failures, "last": failure.message}
            _log.warning("a store fails and is asked only now and then", extra={"fields": fields})

    def _withdraw(self, generation: int) -> None:
        """The call says nothing; if it was the probe, the next one may be it."""
        if generation == self._generation:
            self._probing = False

    def _change(self, *, opened: bool) -> None:
        self._generation += 1
        self._probing = False
        self._rolling.clear()
        self._open_until = self._monotonic() + self._open_s if opened else None


class Bulkhead:
    """Lets at most `limit` in at once; up to `queue` more wait for their turn, first come, first served."""

    def __init__(self, name: str, limit: int, *, queue: int = 0, retry_after_s: float = 0.25) -> None:
        self._name = name
        self._limit = limit
        self._queue = queue
        self._retry_after_s = retry_after_s
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> int:
        """How many are in."""
        return self._busy

    @asynccontextmanager
    async def place(self, *, timeout_s: float) -> AsyncIterator[None]:
        """A place inside, for the length of the block.

        Raises:
            Concurrency: it is full and so is the queue, or no place fell free within `timeout_s`.
        """
        if self._busy < self._limit:
            self._busy += 1
        else:
            await self._wait(timeout_s)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, timeout_s: float) -> None:
        if len(self._waiting) >= self._queue:
            raise self._full()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout_s, self._give_up, turn)
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Who left meanwhile may have taken it out already.
                with suppress(ValueError):
                    self._waiting.remove(turn)
            elif turn.exception() is None:
                # The place was handed over in the same moment.
                self._leave()
            raise
        finally:
            timer.cancel()

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self._waiting.remove(turn)
            turn.set_exception(self._full())

    def _leave(self) -> None:
        """Hands the place to who waits longest, or frees it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1

    def _full(self) -> Concurrency:
        message = f"{self._name} is busy with {self._limit} calls already; retry"
        return Concurrency(message, retry_after_s=self._retry_after_s)
