"""The portfolio: the published scores of all the tenants that a caller may see, and where each is going."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.materialize.published import GRACE_S
from coherence_grpc.model import SECOND
from coherence_grpc.ports import PortfolioOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.model import Caller, Head, Score
    from coherence_grpc.ports import Authoriser, Clock, ScoreQuery, ScoreStore, SignalStore

# A score is compared with the one shown so long before; a smaller difference is none.
TREND_US: Final = 3600 * SECOND
TREND_PPM: Final = 10_000


class Trend(StrEnum):
    """Where a score is going."""

    UP = "UP"
    DOWN = "DOWN"
    FLAT = "FLAT"


class Listed(NamedTuple):
    """A row of the portfolio; `trend` None: there is no score, or there was none an hour earlier."""

    score: Score
    trend: Trend | None


class Portfolio:
    """Reads rows of the score store, and says which of them lag behind."""

    def __init__(
        self,
        signals: SignalStore,
        scores: ScoreStore,
        materializer: Materializer,
        clock: Clock,
        authoriser: Authoriser,
    ) -> None:
        self._signals = signals
        self._scores = scores
        self._materializer = materializer
        self._clock = clock
        self._authoriser = authoriser

    async def page(
        self,
        query: ScoreQuery,
        caller: Caller,
        after: tuple[int, str] | None,
        limit: int,
        order: PortfolioOrder = PortfolioOrder.WORST_FIRST,
    ) -> Sequence[Listed]:
        """Published scores of the tenants that the caller may see, in that order, beyond `after` as in ScoreStore.

        A row is flagged stale when time has changed the score and the row does not follow, or when publication is
        off and the log has moved.
        """
        tenants = await self._authoriser.visible_tenants(caller)
        rows = await self._scores.portfolio(query, tenants=tenants, after=after, limit=limit, order=order)
        shown = await self._scores.shown_at([(row.tenant_id, row.window_end - TREND_US) for row in rows])
        return [
            Listed(row, trend_of(row, earlier)) for row, earlier in zip(await self._flagged(rows), shown, strict=True)
        ]

    async def _flagged(self, rows: Sequence[Score]) -> Sequence[Score]:
        if self._materializer.keeping_up:
            return [replace(row, stale=True) if self._overdue(row) else row for row in rows]
        heads = await self._signals.heads([row.tenant_id for row in rows])
        return [
            replace(row, stale=True) if self._overdue(row) or _behind(row, heads.get(row.tenant_id)) else row
            for row in rows
        ]

    def _overdue(self, row: Score) -> bool:
        overdue_us = 0 if row.valid_until is None else self._clock.now() - row.valid_until
        return overdue_us > 0 and self._clock.machine_seconds(overdue_us) >= GRACE_S


def trend_of(row: Score, earlier: Score | None) -> Trend | None:
    """Where the score is going, beside the one shown an hour before it."""
    if row.score_ppm is None or earlier is None or earlier.score_ppm is None:
        return None
    moved = row.score_ppm - earlier.score_ppm
    if abs(moved) < TREND_PPM:
        return Trend.FLAT
    return Trend.UP if moved > 0 else Trend.DOWN


def _behind(row: Score, head: Head | None) -> bool:
    return head is not None and (head.epoch, head.seq) != (row.signal_epoch, row.as_of_seq)
