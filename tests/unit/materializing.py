"""A materialiser on real stores that a test can hold up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.materialize import Materializer
from coherence_grpc.model import Appended, Status, Tags
from tests.builders import TENANT, ManualClock, a_write
from tests.faults import InterposedScores, InterposedSignals, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from coherence_grpc.model import Item, Score


class World:
    """A materialiser on real stores that can be held up, and what it published."""

    def __init__(self, signals: InterposedSignals, scores: InterposedScores, clock: ManualClock) -> None:
        self.signals = signals
        self.scores = scores
        self.clock = clock
        self.enabled = True
        self.announced: list[Score] = []
        self.materializer = self.another()

    def another(self, *on_published: Callable[[Score], None]) -> Materializer:
        return Materializer(
            self.signals.port,
            self.scores.port,
            self.clock,
            enabled=lambda: self.enabled,
            on_published=[*on_published, self.announced.append],
        )

    async def store(
        self,
        *items: Item,
        tenant_id: str = TENANT,
        backfill: bool = False,
        tags: Tags | None = None,
        tell: bool = True,
    ) -> Appended:
        write = a_write(*items, tenant_id=tenant_id, backfill=backfill, tags=tags)
        (appended,) = await self.signals.append([write], now=self.clock.now())
        assert isinstance(appended, Appended)
        if tell:
            self.materializer.appended(appended)
        return appended

    async def evaluate(self, tenant_id: str = TENANT, *, seq: int = 0) -> Score:
        return await self.materializer.evaluate(tenant_id, seq=seq)

    async def row(self, tenant_id: str = TENANT) -> Score | None:
        rows: dict[str, Score] = await self.scores.get((tenant_id,))
        return rows.get(tenant_id)

    async def row_that(self, done: Callable[[Score], bool], tenant_id: str = TENANT) -> Score:
        row = await eventually(lambda: self.row(tenant_id), lambda found: found is not None and done(found))
        assert row is not None
        return row

    async def history(self, tenant_id: str = TENANT) -> Sequence[Score]:
        found: Sequence[Score] = await self.scores.history(tenant_id, after_version=0, limit=1000)
        return found


@asynccontextmanager
async def open_world(
    directory: Path, *, clock: ManualClock | None = None, running: bool = True
) -> AsyncIterator[World]:
    clock = clock or ManualClock()
    async with open_signal_store(directory, clock) as signals, open_score_store(directory) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        try:
            if running:
                async with world.materializer:
                    yield world
            else:
                yield world
        finally:
            world.signals.release()


def shown(score: Score) -> tuple[int | None, Status, int, int | None, int]:
    return score.score_ppm, score.status, score.signal_count, score.valid_until, score.as_of_seq


def covers(seq: int) -> Callable[[Score], bool]:
    return lambda row: row.as_of_seq == seq
