"""The hub: what happens to a tenant, for whoever wants to know, from any point still in the log.

One tail a tenant, read once for all; a subscriber is a position, so one that never reads costs the others nothing.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from coherence_grpc.events.log import Log
from coherence_grpc.events.pull import Pull
from coherence_grpc.events.ring import CAPACITY
from coherence_grpc.events.subscription import Subscription
from coherence_grpc.events.tails import Tails
from coherence_grpc.events.watch import Watch
from coherence_grpc.ports import News

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from coherence_grpc.events.frames import EventFilter, Positions, Pulled, Start
    from coherence_grpc.model import Appended, Score
    from coherence_grpc.ports import Clock, ScoreStore, SignalStore
    from coherence_grpc.tokens import Cursor

LAG_S: Final = 30.0
COALESCE_S: Final = 0.1


class Hub:
    """Streams events from two stores; an async context manager.

    Signals come in the order of the log, each exactly once over any number of resumes; scores in the order of their
    versions, none before the entries it covers; a status change is never skipped. Pushes and rings make it quick, the
    stores make it right: what is neither pushed nor rung is read within 100 ms.
    """

    def __init__(
        self, signals: SignalStore, scores: ScoreStore, clock: Clock, *, lag_s: float = LAG_S, capacity: int = CAPACITY
    ) -> None:
        self._log = Log(signals, scores)
        self._clock = clock
        self._lag_s = lag_s
        self._group = asyncio.TaskGroup()
        self._tails = Tails(self._log, self._group, capacity=capacity)
        self._poll: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._poll = self._group.create_task(self._tails.poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._tails.drain()
        self._tails.close()
        if self._poll is not None:
            self._poll.cancel()
        # Given the caller's error, the group would wrap it in one of its own.
        await self._group.__aexit__(None, None, None)

    def appended(self, appended: Appended) -> None:
        """A write was committed."""
        if appended.stored:
            self._tails.push(appended.write.tenant_id, appended)

    def published(self, score: Score) -> None:
        """A score was published."""
        self._tails.push(score.tenant_id, score)

    def rung(self, news: News) -> None:
        """Some process, perhaps this one, says that it stored or published something."""
        self._tails.rung(news)

    def moved(self, tenant_id: str, seq: int) -> None:
        """An entry of the server's own was committed here: it is read from the log."""
        self._tails.rung(News(tenant_id, seq, seq))

    def subscribe(
        self,
        tenant_id: str,
        *,
        start: Start,
        filter: EventFilter,  # noqa: A002 - the contract's word
        coalesce_s: float = COALESCE_S,
        max_batch: int = 100,
        heartbeat_s: float = 10.0,
        max_age_s: float = inf,
        on_lagged: Callable[[Cursor], None] | None = None,
    ) -> Subscription:
        """Frames from the start on; close it, or leave it as a context manager.

        `coalesce_s` bounds how long events are gathered when the tail is busy; on an idle one they come at once.
        `on_lagged` is called with a resume cursor when the consumer took nothing for too long; if it comes back after
        all, it is handed a Closing.

        Raises, when the first frame is asked for:
            CursorExpired: the start is not in the log any more, or not yet.
            Draining: the server is shutting down.
            StoreDown: also later, when it has to read on; `resume_cursor` tells where it stood.
        """
        return Subscription(
            self._tails,
            self._clock,
            tenant_id,
            start,
            filter,
            coalesce_s=coalesce_s,
            max_batch=max_batch,
            heartbeat_s=heartbeat_s,
            lag_s=self._lag_s,
            max_age_s=max_age_s,
            on_lagged=on_lagged,
        )

    async def pull(
        self,
        tenant_id: str,
        *,
        start: Start,
        filter: EventFilter,  # noqa: A002 - the contract's word
        max_events: int,
        wait_s: float,
    ) -> Pulled:
        """At most `max_events` events from the start on; waits up to `wait_s` for the first.

        Raises:
            CursorExpired, Draining, StoreDown: as subscribe.
        """
        return await Pull(self._tails, tenant_id, filter, max_events).run(start, wait_s)

    async def position(self, tenant_id: str, start: Start) -> Positions:
        """The cursor for a start, and the range that can be read.

        Raises:
            CursorExpired: as subscribe.
        """
        return await self._log.positions(tenant_id, start)

    def watch(
        self,
        tenant_ids: Sequence[str],
        *,
        status_changes_only: bool,
        coalesce_s: float = COALESCE_S,
        on_lagged: Callable[[], None] | None = None,
    ) -> Watch:
        """The scores published from now on; `await watch.open()` before reading the current ones, so none is missed."""
        return Watch(
            self._tails,
            tenant_ids,
            status_changes_only=status_changes_only,
            coalesce_s=coalesce_s,
            lag_s=self._lag_s,
            on_lagged=on_lagged,
        )

    def drain(self) -> None:
        """End every stream with Closing(DRAINING) or Draining, and refuse new ones."""
        self._tails.drain()
