"""What other processes appended: heard by the doorbell, and found out by asking when it was not heard."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Self

from coherence_grpc.errors import CoherenceError
from coherence_grpc.model import SECOND

if TYPE_CHECKING:
    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.model import Head
    from coherence_grpc.ports import Clock, Doorbell, News, SignalStore

POLL_S: Final = 0.25
BACK_OFF_S: Final = 1.0
# Other processes' clocks may be so far behind, and a commit may take so long: older news is not missed for that.
OVERLAP: Final = 60 * SECOND

_log = logging.getLogger(__name__)


class Follower:
    """Tells the materialiser which logs moved in other processes; an async context manager that follows while open."""

    def __init__(self, signals: SignalStore, materializer: Materializer, clock: Clock, doorbell: Doorbell) -> None:
        self._signals = signals
        self._materializer = materializer
        self._clock = clock
        self._heads: dict[str, Head] = {}
        self._failing = False
        self.polls = 0
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        doorbell.listen(self._hear)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="following")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _hear(self, news: News) -> None:
        if news.to_seq:
            self._materializer.moved(news.tenant_id, news.to_seq)
        elif not news.version:
            self._asked.set()

    async def _follow(self) -> None:
        while True:
            try:
                await self._ask()
                self._failing = False
            except CoherenceError as error:
                if not self._failing:
                    _log.warning("what other processes store can't be followed, trying again: %s", error.message)
                self._failing = True
            await self._rest(BACK_OFF_S if self._failing else POLL_S)

    async def _ask(self) -> None:
        self.polls += 1
        moved = await self._signals.moved(since=self._clock.now() - OVERLAP)
        for tenant_id, head in moved.items():
            if self._heads.get(tenant_id) != head:
                self._materializer.moved(tenant_id, head.seq)
        # What fell out of the overlap is forgotten: it is told again when it moves.
        self._heads = dict(moved)

    async def _rest(self, seconds: float) -> None:
        self._asked.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return
