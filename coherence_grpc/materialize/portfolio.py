"""The portfolio: the published scores of all the tenants that a caller may see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coherence_grpc.materialize.published import GRACE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.model import Caller, Head, Score
    from coherence_grpc.ports import Authoriser, Clock, ScoreQuery, ScoreStore, SignalStore


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
        self, query: ScoreQuery, caller: Caller, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Score]:
        """Published scores of the tenants that the caller may see, worst first, UNKNOWN last, beyond `after`.

        A row is flagged stale when time has changed the score and the row does not follow, or when publication is
        off and the log has moved.
        """
        tenants = await self._authoriser.visible_tenants(caller)
        rows = await self._scores.portfolio(query, tenants=tenants, after=after, limit=limit)
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


def _behind(row: Score, head: Head | None) -> bool:
    return head is not None and (head.epoch, head.seq) != (row.signal_epoch, row.as_of_seq)
