"""Tells a server that is gone without a word from one that is slow: long before a call's time is up."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import CoherenceError, StoreDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

# Together below the second within which a caller is to learn that the store is away.
PATIENT_S: Final = 0.2
ANSWER_S: Final = 0.6
# The time for the answer is counted in parts: a process that was held up itself for one of them still hears it.
PARTS: Final = 4
# One that is late is waited for beyond the verdict: on a server that has just started it is the next one's way in.
QUESTION_S: Final = 4.0


class _Call(NamedTuple):
    begun: float
    give_up: Callable[[], None]


class Watch:
    """Asks a server something easy on a connection of its own while calls wait, and ends them when it hears nothing.

    A call that takes its time on a server that answers, this question or another call, is left alone: its own limit
    ends it.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        on_silence: Callable[[], None],
        *,
        patient_s: float = PATIENT_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`ask` raises StoreDown when nobody is there; any other refusal is an answer."""
        self._ask = ask
        self._on_silence = on_silence
        self._patient_s = patient_s
        self._answer_s = answer_s
        # In the order in which they began.
        self._calls: dict[object, _Call] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._answer: asyncio.Task[bool] | None = None
        self._heard_at = 0.0

    @contextmanager
    def over(self, give_up: Callable[[], None]) -> Iterator[None]:
        """Around a call, which `give_up` ends at once."""
        key, loop = object(), asyncio.get_running_loop()
        self._calls[key] = _Call(loop.time(), give_up)
        if self._timer is None and self._asking is None:
            self._look_again(self._patient_s)
        try:
            yield
            self._heard_at = loop.time()
        finally:
            # Who was given up is out already.
            self._calls.pop(key, None)

    async def close(self) -> None:
        """Asks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = [task for task in (self._asking, self._answer) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _look_again(self, in_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(in_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._calls:
            return
        oldest = next(iter(self._calls.values()))
        left = oldest.begun + self._patient_s - asyncio.get_running_loop().time()
        if left > 0:
            self._look_again(left)
        else:
            self._asking = asyncio.create_task(self._question())

    async def _question(self) -> None:
        asked = asyncio.get_running_loop().time()
        try:
            if not await self._hears(asked):
                self._on_silence()
                self._give_up()
        finally:
            self._asking = None
        if self._calls:
            self._look_again(self._patient_s)

    def _give_up(self) -> None:
        """All of them: none has heard anything since the question either."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.give_up()

    async def _hears(self, asked: float) -> bool:
        fresh = self._answer is None or self._answer.done()
        answer = self._begin() if self._answer is None or fresh else self._answer
        for _ in range(PARTS):
            await asyncio.wait((answer,), timeout=self._answer_s / PARTS)
            if self._heard_at > asked:
                return True
            if answer.done():
                if fresh or answer.result():
                    return answer.result()
                # What nobody answered earlier says nothing about now.
                fresh, answer = True, self._begin()
        return False

    def _begin(self) -> asyncio.Task[bool]:
        self._answer = asyncio.create_task(self._answered())
        return self._answer

    async def _answered(self) -> bool:
        try:
            async with asyncio.timeout(max(QUESTION_S, self._answer_s)):
                await self._ask()
        except (TimeoutError, StoreDown):
            return False
        except CoherenceError:
            # A refusal is an answer.
            pass
        return True
