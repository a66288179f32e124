"""The scores on real stores, and short ways to ask for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.materialize import Explanations, Materializer, Portfolio, Scores
from coherence_grpc.model import (
    QUANTUM,
    Appended,
    Head,
    Tags,
)
from coherence_grpc.ports import ScoreQuery
from coherence_grpc.tokens import Key, Revision, Signer
from tests.builders import TENANT, ManualClock, a_caller, a_write
from tests.faults import Grants, InterposedScores, InterposedSignals, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.materialize import Explanation
    from coherence_grpc.model import Item, Score

EVERYTHING = ScoreQuery()


class World:
    """The scores on real stores, and short ways to ask for them."""

    def __init__(self, signals: InterposedSignals, scores: InterposedScores, clock: ManualClock) -> None:
        self.signals = signals
        self.store = scores
        self.clock = clock
        self.enabled = True
        self.signer = Signer([Key(1, b"k" * 32)])
        self.materializer = Materializer(
            signals.port, scores.port, clock, enabled=lambda: self.enabled, on_published=[]
        )
        self.scores = Scores(signals.port, scores.port, self.materializer, clock, Grants(), self.signer)
        self.explanations = Explanations(signals.port, self.materializer, clock)
        self.portfolio = Portfolio(signals.port, scores.port, self.materializer, clock, Grants())

    async def publish(self, *items: Item, tenant_id: str = TENANT, tags: Tags | None = None) -> Appended:
        (appended,) = await self.signals.append([a_write(*items, tenant_id=tenant_id, tags=tags)], now=self.clock.now())
        assert isinstance(appended, Appended)
        self.materializer.appended(appended)
        return appended

    async def get(
        self, tenant_id: str = TENANT, *, as_of: int | None = None, at_least: Revision | None = None
    ) -> tuple[Score, Head]:
        return await self.scores.get(tenant_id, as_of=as_of, at_least=at_least, timeout_s=5)

    async def rows(self, count: int) -> Sequence[Score]:
        """The portfolio, as soon as it has that many rows."""
        page = await eventually(
            lambda: self.portfolio.page(EVERYTHING, a_caller(), None, 100), lambda rows: len(rows) == count
        )
        return [listed.score for listed in page]

    async def explain(
        self, *, tenant_id: str = TENANT, top_n: int = 10, as_of: int | None = None, policy_etag: str = ""
    ) -> Explanation:
        return await self.explanations.get(tenant_id, top_n=top_n, as_of=as_of, policy_etag=policy_etag)


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    async with open_signal_store(directory, clock) as signals, open_score_store(directory) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        async with world.materializer:
            yield world


def revision_of(head: Head) -> Revision:
    return Revision(head.epoch, head.seq, head.head_hash[:8])


def exact(items: Sequence[Item]) -> Fraction:
    """The mean before rounding."""
    weight = sum(item.weight_q for item in items)
    return Fraction(sum(item.value_q * item.weight_q for item in items), weight * QUANTUM)
