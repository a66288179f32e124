"""Processes on the same stores, as far as one can be several: a materialiser each, and leases that a test hands out."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.materialize import Follower, Materializer, PublishedScores, Scores
from coherence_grpc.model import Appended
from coherence_grpc.shards import shard_of
from coherence_grpc.tokens import Key, Signer
from tests.builders import TENANT, ManualClock, a_write
from tests.faults import Grants, InterposedScores, InterposedSignals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from coherence_grpc.model import Item, Score
    from coherence_grpc.ports import News, ScoreCache


class Leases:
    """The process holds the tenants of `held`."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self._on_changed: list[Callable[[], None]] = []

    def holds(self, tenant_id: str) -> bool:
        return tenant_id in self.held

    @property
    def shards(self) -> set[int]:
        return {shard_of(tenant_id) for tenant_id in self.held}

    def listen(self, on_changed: Callable[[], None]) -> None:
        self._on_changed.append(on_changed)

    def give(self, *held: str) -> None:
        self.held = set(held)
        for notify in self._on_changed:
            notify()


class Bell:
    """A doorbell whose button a test presses."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[News], None]] = []

    def ring(self, news: News) -> None:
        for listener in self._listeners:
            listener(news)

    def listen(self, on_news: Callable[[News], None]) -> None:
        self._listeners.append(on_news)


class Process:
    """What one process makes of the shared stores."""

    def __init__(
        self,
        signals: InterposedSignals,
        scores: InterposedScores,
        clock: ManualClock,
        *held: str,
        cache: ScoreCache | None = None,
    ) -> None:
        self.leases = Leases(*held)
        self.bell = Bell()
        self.enabled = True
        self.read_mode = "cache"
        self.announced: list[Score] = []
        self.materializer = Materializer(
            signals.port,
            scores.port,
            clock,
            enabled=lambda: self.enabled,
            on_published=[self.announced.append],
            leases=self.leases,
        )
        self.follower = Follower(signals.port, self.materializer, clock, self.bell)
        self.published = PublishedScores(
            self.materializer.rows, self.materializer, clock, cache=cache, cached=lambda: cache is not None
        )
        self.scores = Scores(
            signals.port,
            scores.port,
            self.materializer,
            clock,
            Grants(),
            Signer([Key(1, b"k" * 32)]),
            published=self.published,
            read_mode=lambda: self.read_mode,
        )


class Shared:
    """The stores, and processes on them."""

    def __init__(self, signals: InterposedSignals, scores: InterposedScores, clock: ManualClock) -> None:
        self.signals = signals
        self.scores = scores
        self.clock = clock

    async def store(self, *items: Item, tenant_id: str = TENANT) -> Appended:
        """Append without telling any process."""
        (appended,) = await self.signals.append([a_write(*items, tenant_id=tenant_id)], now=self.clock.now())
        assert isinstance(appended, Appended)
        return appended

    async def row(self, tenant_id: str = TENANT) -> Score | None:
        rows: dict[str, Score] = await self.scores.get((tenant_id,))
        return rows.get(tenant_id)

    def process(self, *held: str, cache: ScoreCache | None = None) -> Process:
        """One that does not run."""
        return Process(self.signals, self.scores, self.clock, *held, cache=cache)

    @asynccontextmanager
    async def running(self, *held: str, following: bool = True) -> AsyncIterator[Process]:
        process = self.process(*held)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(process.materializer)
            if following:
                await stack.enter_async_context(process.follower)
            yield process


@asynccontextmanager
async def open_shared(directory: Path) -> AsyncIterator[Shared]:
    clock = ManualClock()
    async with open_signal_store(directory, clock) as signals, open_score_store(directory) as scores:
        shared = Shared(InterposedSignals(signals), InterposedScores(scores), clock)
        try:
            yield shared
        finally:
            shared.signals.release()
