"""What keeps a stream alive, and what ends it: bookmarks, consumers that lag, stores that go away, the drain."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import Draining, StoreDown
from coherence_grpc.events import Bookmark, Closing, ClosingReason, EventFilter, EventKind, Hub, Position
from tests.builders import TENANT, ManualClock
from tests.streams import ALL, World, open_world, opened, read_all, take_signals, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.events import Subscription
    from coherence_grpc.tokens import Cursor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def test_a_quiet_stream_gets_a_bookmark_every_heartbeat(world: World) -> None:
    await world.append_many(2)
    async with world.subscribe(Position.LATEST, heartbeat_s=0.05) as frames, asyncio.timeout(5):
        first = await opened(frames)
        loop = asyncio.get_running_loop()
        begun = loop.time()

        bookmarks = [await anext(frames) for _ in range(3)]

        assert loop.time() - begun >= 3 * 0.04
    assert bookmarks == [Bookmark(first.cursor, world.clock.now())] * 3


@pytest.mark.parametrize(
    "nothing",
    [EventFilter(sources=frozenset({"nobody"})), EventFilter(kinds=frozenset({EventKind.SCORE_UPDATED}))],
    ids=["signals", "scores"],
)
async def test_a_bookmark_moves_over_what_is_filtered_out(world: World, nothing: EventFilter) -> None:
    async with world.subscribe(Position.LATEST, filter=nothing, heartbeat_s=0.05) as frames:
        await opened(frames)
        await world.append_many(3)

        async with asyncio.timeout(5):
            while not (isinstance(frame := await anext(frames), Bookmark) and frame.cursor.seq == 3):
                assert isinstance(frame, Bookmark)

    async with world.subscribe(frame.cursor) as resumed:
        await opened(resumed)
        await world.append()
        assert await take_signals(resumed, 1) == [4]


async def test_a_long_replay_of_nothing_but_filtered_events_gets_bookmarks(world: World) -> None:
    for _ in range(8):
        await world.append_many(1000, push=False)
    nothing = EventFilter(sources=frozenset({"nobody"}))

    async with world.subscribe(filter=nothing, heartbeat_s=0.001) as frames, asyncio.timeout(10):
        await opened(frames)
        positions: list[int] = []
        while not positions or positions[-1] < 8000:
            frame = await anext(frames)
            assert isinstance(frame, Bookmark)
            positions.append(frame.cursor.seq)

    assert positions == sorted(positions)
    assert any(0 < position < 8000 for position in positions)


async def test_r13_a_subscriber_that_never_reads_is_ended_with_a_resume_cursor_and_slows_nobody(tmp_path: Path) -> None:
    lagged: asyncio.Future[Cursor] = asyncio.get_running_loop().create_future()
    async with open_world(tmp_path, lag_s=4) as world, asyncio.timeout(30), asyncio.TaskGroup() as group:
        frozen = world.subscribe(Position.LATEST, max_batch=5, on_lagged=lagged.set_result)
        await opened(frozen)
        await world.append_many(10)
        taken = await take_signals(frozen, 10)

        quick = group.create_task(read_all(world.subscribe(), 2010))
        for _ in range(20):
            await world.append_many(100)
        others = await quick
        before_the_end = not lagged.done()
        resume = await lagged
        closing = await anext(frozen)

        async with world.subscribe(resume) as resumed:
            await opened(resumed)
            again = await take_signals(resumed, 2005)
    assert before_the_end
    assert others == taken[:5] + again == list(range(1, 2011))
    # What was being handed over when the consumer froze may not have arrived: it comes again.
    assert resume.seq == 5
    assert isinstance(closing, Closing)
    assert (closing.reason, closing.resume_cursor.seq) == (ClosingReason.LAGGED, 10)


async def test_a_lagging_subscriber_holds_no_tail(tmp_path: Path) -> None:
    lagged: asyncio.Future[Cursor] = asyncio.get_running_loop().create_future()
    async with open_world(tmp_path, lag_s=0.05) as world:
        frozen = world.subscribe(Position.LATEST, on_lagged=lagged.set_result)
        await opened(frozen)
        assert watched(world) == {TENANT}

        async with asyncio.timeout(5):
            await lagged

        assert watched(world) == set()
        assert frozen.resume_cursor == lagged.result()


async def test_a_waiting_subscriber_never_lags(tmp_path: Path) -> None:
    async with open_world(tmp_path, lag_s=0.05) as world, world.subscribe(heartbeat_s=0.2) as frames:
        await opened(frames)

        async with asyncio.timeout(5):
            bookmarks = [await anext(frames) for _ in range(2)]

    assert all(isinstance(frame, Bookmark) for frame in bookmarks)


async def test_a_tail_goes_with_its_last_subscriber(world: World) -> None:
    async with world.subscribe() as one:
        await opened(one)
        async with world.subscribe() as other:
            await opened(other)

        assert watched(world) == {TENANT}
    assert watched(world) == set()


async def test_r14_drain_ends_every_stream_with_a_cursor_and_refuses_new_ones(world: World) -> None:
    async with world.subscribe(Position.LATEST) as idle, world.subscribe(Position.LATEST, max_batch=2) as busy:
        await opened(idle)
        await opened(busy)
        waiting = asyncio.create_task(anext(idle))
        await world.append_many(4)
        await waiting
        waiting = asyncio.create_task(anext(idle))
        assert await take_signals(busy, 2) == [1, 2]

        world.hub.drain()
        ends = [await waiting, await anext(busy)]

        with pytest.raises(StopAsyncIteration):
            await anext(busy)
        with pytest.raises(Draining):
            await anext(world.subscribe())
    assert [isinstance(end, Closing) and end.reason for end in ends] == [ClosingReason.DRAINING] * 2
    assert [isinstance(end, Closing) and end.resume_cursor.seq for end in ends] == [4, 2]


async def test_a_stream_is_closed_at_its_maximum_age(world: World) -> None:
    async with world.hub.subscribe(TENANT, start=Position.LATEST, filter=ALL, max_age_s=0.05) as frames:
        first = await opened(frames)

        async with asyncio.timeout(5):
            end = await anext(frames)

    assert end == Closing(ClosingReason.MAX_AGE, first.cursor, 0.0)


async def test_a_store_that_goes_away_leaves_bookmarks_and_refuses_a_catch_up_with_a_cursor(tmp_path: Path) -> None:
    clock = ManualClock()
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        store = await stack.enter_async_context(AsyncExitStack())
        signals = await store.enter_async_context(open_signal_store(tmp_path, clock))
        scores = await stack.enter_async_context(open_score_store(tmp_path))
        hub = await stack.enter_async_context(Hub(signals, scores, clock))
        world = World(signals, scores, clock, hub)
        await world.append_many(3)
        idle = await stack.enter_async_context(world.subscribe(Position.LATEST, heartbeat_s=0.2))
        behind = [await stack.enter_async_context(world.subscribe(Position.EARLIEST)) for _ in range(2)]
        latest = (await opened(idle)).cursor
        start = [(await opened(frames)).cursor for frames in behind]

        await store.aclose()

        assert [await anext(idle) for _ in range(2)] == [Bookmark(latest, clock.now())] * 2
        refusals = [asyncio.create_task(refusal(frames)) for frames in behind]
        # Whoever tells a subscriber adds its cursor: each has an error of its own.
        assert await refusals[0] is not await refusals[1]
        assert [frames.resume_cursor for frames in behind] == start


async def refusal(frames: Subscription) -> StoreDown:
    with pytest.raises(StoreDown) as caught:
        await anext(frames)
    return caught.value
