"""Scores as they were published, where that is as good as computing them, and what to answer while a store is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from coherence_grpc.breaker import Bulkhead
from coherence_grpc.errors import Concurrency, StoreDown, StoreTimeout
from coherence_grpc.materialize.rows import Seen
from coherence_grpc.model import ScoreSource
from coherence_grpc.singleflight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.materialize.rows import Rows
    from coherence_grpc.model import Score
    from coherence_grpc.ports import Clock, ScoreCache

# How long past valid_until a row may be on its way to being published anew.
GRACE_S: Final = 0.25
# How long a read waits for a row to reach the revision it asks for, before it is computed.
PATIENCE_S: Final = 0.2
LOOK_S: Final = 0.02
# How far past its time a row is still shown, as stale, while nothing better can be had.
MAX_STALE_S: Final = 60.0
COMPUTING: Final = 4
_AWAY: Final = (StoreDown, StoreTimeout)


class PublishedScores:
    """Reads rows: of the cache where that is switched on, else of the score store."""

    def __init__(
        self,
        rows: Rows,
        materializer: Materializer,
        clock: Clock,
        *,
        cache: ScoreCache | None = None,
        cached: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rows = rows
        self._materializer = materializer
        self._clock = clock
        self._cache = cache
        self._cached = cached
        self._bulkhead = Bulkhead("computing scores", COMPUTING)
        self._computing: SingleFlight[str, Score] = SingleFlight()

    async def get(self, tenant_id: str, *, at_least: int, timeout_s: float) -> Score:
        """The row, if time has not passed it and it has seen entry `at_least`; otherwise the score is computed.

        A row says that it is stale when the log has moved on without it; while the score store is away, when it is that
        of at most a minute ago; and while it can't be computed, when time has passed it for at most a minute.

        Raises:
            StoreDown, StoreTimeout, Concurrency: there is neither.
        """
        seen = await self._row(tenant_id, at_least)
        if seen.row is not None and seen.row.as_of_seq < at_least:
            seen = await self._wait(tenant_id, at_least, min(timeout_s / 2, PATIENCE_S)) or seen
        row = seen.row
        if row is None or row.as_of_seq < at_least:
            return await self._computed(tenant_id)
        age_s = seen.remembered_s or 0.0
        if self._overdue_s(row) < GRACE_S and age_s <= MAX_STALE_S:
            return replace(row, stale=seen.remembered_s is not None or self._rows.behind(row))
        try:
            return await self._computed(tenant_id)
        except (*_AWAY, Concurrency):
            if max(age_s, self._overdue_s(row)) > MAX_STALE_S:
                raise
            return replace(row, stale=True)

    async def _computed(self, tenant_id: str) -> Score:
        return await self._computing.do(tenant_id, partial(self._compute, tenant_id))

    async def _compute(self, tenant_id: str) -> Score:
        async with self._bulkhead.place(timeout_s=0):
            return await self._materializer.computed(tenant_id)

    async def _row(self, tenant_id: str, at_least: int) -> Seen:
        if self._cache is not None and self._cached():
            row = (await self._cache.get((tenant_id,))).get(tenant_id)
            if row is not None and row.as_of_seq >= at_least and self._overdue_s(row) < 0:
                return Seen(replace(row, source=ScoreSource.CACHE))
        return await self._rows.last(tenant_id)

    async def _wait(self, tenant_id: str, at_least: int, patience_s: float) -> Seen | None:
        deadline = asyncio.get_running_loop().time() + patience_s
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(LOOK_S)
            seen = await self._row(tenant_id, at_least)
            if seen.row is not None and seen.row.as_of_seq >= at_least:
                return seen
        return None

    def _overdue_s(self, row: Score) -> float:
        """Machine seconds since time passed the row; negative before."""
        if row.valid_until is None:
            return -1.0
        overdue_us = self._clock.now() - row.valid_until
        return self._clock.machine_seconds(overdue_us) if overdue_us >= 0 else -1.0
