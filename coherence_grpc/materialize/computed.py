"""Scores computed from the store's signals for one call, each shared by all who ask for it at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.deadline import unhurried
from coherence_grpc.model import WINDOW, Score, ScoreSource
from coherence_grpc.score import status_of

if TYPE_CHECKING:
    from coherence_grpc.materialize.rows import Rows
    from coherence_grpc.ports import Clock, SignalStore, WindowTotals


class _Flight(NamedTuple):
    """One computation; until it has begun, others may join it."""

    begun: asyncio.Event
    task: asyncio.Task[Score]


class ComputedScores:
    """Computes scores from the store, one computation at a time for the same tenant and instant."""

    def __init__(self, signals: SignalStore, rows: Rows, clock: Clock) -> None:
        self._signals = signals
        self._rows = rows
        self._clock = clock
        self._newest: dict[tuple[str, int | None], _Flight] = {}
        self.count = 0

    async def get(self, tenant_id: str, as_of: int | None = None) -> Score:
        """The tenant's score as of the instant; None: now, or the published row's window end if that is later.

        Raises:
            WindowIncomplete: signals of the window were erased.
        """
        key = (tenant_id, as_of)
        flight = self._newest.get(key)
        if flight is None or flight.begun.is_set():
            # One that has begun may have read the log before this caller's own write.
            begun, after = asyncio.Event(), None if flight is None else flight.task
            flight = _Flight(begun, asyncio.create_task(self._fly(key, begun, after), context=unhurried()))
            flight.task.add_done_callback(_retrieve)
            self._newest[key] = flight
        return await asyncio.shield(flight.task)

    async def _fly(self, key: tuple[str, int | None], begun: asyncio.Event, after: asyncio.Task[Score] | None) -> Score:
        if after is not None:
            await asyncio.wait((after,))
        begun.set()
        try:
            return await self._compute(*key)
        finally:
            if self._newest[key].begun is begun:
                del self._newest[key]

    async def _compute(self, tenant_id: str, as_of: int | None) -> Score:
        self.count += 1
        row = (await self._rows.last(tenant_id)).row
        now = self._clock.now()
        instant = as_of
        if instant is None:
            instant = now if row is None else max(now, row.window_end)
        totals = await self._signals.totals(tenant_id, start=instant - WINDOW, end=instant)
        version = 0 if row is None else row.version
        return score_of(tenant_id, totals, instant, now=now, score_epoch=self._rows.epoch, version=version)


def score_of(tenant_id: str, totals: WindowTotals, instant: int, *, now: int, score_epoch: int, version: int) -> Score:
    """The score that the store's sums over the window up to `instant` amount to."""
    score_ppm = totals.sums.score_ppm()
    return Score(
        tenant_id=tenant_id,
        score_ppm=score_ppm,
        status=status_of(score_ppm),
        signal_count=totals.sums.count,
        weight_q=totals.sums.weight,
        window_start=instant - WINDOW,
        window_end=instant,
        data_time=totals.newest_ts,
        valid_until=totals.next_change,
        as_of_seq=totals.head.seq,
        head_hash=totals.head.head_hash,
        signal_epoch=totals.head.epoch,
        score_epoch=score_epoch,
        version=version,
        computed_at=max(now, instant),
        source=ScoreSource.COMPUTED,
    )


def _retrieve(task: asyncio.Task[Score]) -> None:
    # Whoever asked may be gone when it fails.
    if not task.cancelled():
        task.exception()
