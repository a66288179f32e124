"""A hub on real embedded stores, and short ways to make things happen in it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import CoherenceError
from coherence_grpc.events import Batch, Bookmark, EventFilter, Hub, Opened, Position
from tests.builders import TENANT, ManualClock, a_score, a_write, an_item

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from coherence_grpc.events import Frame, Start, Subscription
    from coherence_grpc.model import Appended, Item, Score, Tags
    from coherence_grpc.ports import ScoreStore, SignalStore
    from coherence_grpc.tokens import Cursor

ALL = EventFilter()


class World:
    """Two stores and a hub; what is appended and published is pushed to the hub unless said otherwise."""

    def __init__(self, signals: SignalStore, scores: ScoreStore, clock: ManualClock, hub: Hub) -> None:
        self.signals = signals
        self.scores = scores
        self.clock = clock
        self.hub = hub

    async def append(
        self, *items: Item, tenant_id: str = TENANT, tags: Tags | None = None, push: bool = True, traceparent: str = ""
    ) -> Appended:
        """Store the items (one fresh one if none is named) by one request."""
        write = a_write(*items, tenant_id=tenant_id, tags=tags, traceparent=traceparent)
        (appended,) = await self.signals.append([write], now=self.clock.now())
        assert not isinstance(appended, CoherenceError)
        if push:
            self.hub.appended(appended)
        return appended

    async def append_many(self, count: int, *, push: bool = True, tenant_id: str = TENANT) -> Appended:
        """Store that many fresh signals by one request."""
        return await self.append(*(an_item() for _ in range(count)), tenant_id=tenant_id, push=push)

    async def publish(
        self, score_ppm: int = 800_000, *, tenant_id: str = TENANT, changed: bool = False, push: bool = True
    ) -> Score:
        """Publish the tenant's next score over all its entries."""
        row = (await self.scores.get([tenant_id])).get(tenant_id)
        head = await self.signals.head(tenant_id)
        score = a_score(
            tenant_id=tenant_id,
            score_ppm=score_ppm,
            window_end=self.clock.now(),
            as_of_seq=head.seq,
            head_hash=head.head_hash,
            signal_epoch=head.epoch,
            score_epoch=self.scores.epoch,
            version=1 if row is None else row.version + 1,
            status_changed=changed,
        )
        assert await self.scores.publish([score]) == [True]
        if push:
            self.hub.published(score)
        return score

    def subscribe(
        self,
        start: Start = Position.EARLIEST,
        *,
        filter: EventFilter = ALL,  # noqa: A002 - the contract's word
        tenant_id: str = TENANT,
        coalesce_s: float = 0.1,
        max_batch: int = 100,
        heartbeat_s: float = 10.0,
        on_lagged: Callable[[Cursor], None] | None = None,
    ) -> Subscription:
        return self.hub.subscribe(
            tenant_id,
            start=start,
            filter=filter,
            coalesce_s=coalesce_s,
            max_batch=max_batch,
            heartbeat_s=heartbeat_s,
            on_lagged=on_lagged,
        )


@asynccontextmanager
async def open_world(
    directory: Path, *, clock: ManualClock | None = None, lag_s: float = 30.0, capacity: int = 4096
) -> AsyncIterator[World]:
    """The world in a directory; opened again, it is the same one after a restart."""
    clock = clock or ManualClock()
    async with (
        open_signal_store(directory, clock) as signals,
        open_score_store(directory) as scores,
        Hub(signals, scores, clock, lag_s=lag_s, capacity=capacity) as hub,
    ):
        yield World(signals, scores, clock, hub)


async def opened(frames: Subscription) -> Opened:
    """The first frame."""
    frame = await anext(frames)
    assert isinstance(frame, Opened)
    return frame


async def take_until(
    frames: Subscription, done: Callable[[list[Frame]], bool], *, timeout_s: float = 10
) -> list[Frame]:
    """Frames from here on until enough have come; bookmarks are left out."""
    taken: list[Frame] = []
    async with asyncio.timeout(timeout_s):
        while not done(taken):
            frame = await anext(frames)
            if not isinstance(frame, Bookmark):
                taken.append(frame)
    return taken


def seqs(frames: list[Frame]) -> list[int]:
    """The numbers of the signals in the frames."""
    return [e.signal.seq for f in frames if isinstance(f, Batch) for e in f.events if e.signal is not None]


def versions(frames: list[Frame]) -> list[int]:
    """The versions of the scores in the frames."""
    return [e.score.version for f in frames if isinstance(f, Batch) for e in f.events if e.score is not None]


async def take_signals(frames: Subscription, count: int) -> list[int]:
    """The numbers of the next so many signals."""
    return seqs(await take_until(frames, lambda taken: len(seqs(taken)) >= count))


async def read_all(frames: Subscription, count: int) -> list[int]:
    """The numbers of the first so many signals of a stream that was not opened yet."""
    async with frames:
        await opened(frames)
        return await take_signals(frames, count)


async def until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what a test looks at has no event to wait for
            await asyncio.sleep(0.001)


def watched(world: World) -> set[str]:
    """The tenants that the hub keeps a tail of."""
    return set(world.hub._tails._tails)
