"""What other processes are told of commits and publications: a ring each, and the row in the cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from coherence_grpc.failpoints import failpoint
from coherence_grpc.ports import News

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.model import Appended, Score
    from coherence_grpc.ports import Doorbell, ScoreCache


class Announcer:
    """Rings for commits and publications, and puts published rows into the cache where that is switched on.

    An async context manager; rows not yet cached when it closes are forgotten: they are in the score store.
    """

    def __init__(self, doorbell: Doorbell, cache: ScoreCache, *, cached: Callable[[], bool]) -> None:
        self._doorbell = doorbell
        self._cache = cache
        self._cached = cached
        self._rows: dict[str, Score] = {}
        self._putting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._putting is not None:
            self._putting.cancel()
            await asyncio.wait((self._putting,))

    def appended(self, appended: Appended) -> None:
        """A write was committed here."""
        failpoint("ring.before")
        last = appended.first_seq + len(appended.stored) - 1
        self._doorbell.ring(News(appended.write.tenant_id, appended.first_seq, last))

    def moved(self, tenant_id: str, seq: int) -> None:
        """An entry of the server's own was committed here."""
        self._doorbell.ring(News(tenant_id, seq, seq))

    def published(self, score: Score) -> None:
        """A score was published here."""
        self._doorbell.ring(News(score.tenant_id, 0, 0, score.version))
        if not self._cached():
            return
        self._rows[score.tenant_id] = score
        if self._putting is None or self._putting.done():
            self._putting = asyncio.create_task(self._put(), name="caching scores")

    async def _put(self) -> None:
        # What is published while a batch is put goes with the next one.
        while self._rows:
            rows, self._rows = self._rows, {}
            await self._cache.put(list(rows.values()))
