"""Streams on what happens now: order, sharing, bookmarks, consumers that lag, the end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import Draining, StoreDown
from coherence_grpc.events import Batch, Bookmark, Closing, ClosingReason, EventFilter, EventKind, Hub, Position
from coherence_grpc.model import Status
from tests.builders import NOON, TENANT, ManualClock, an_item
from tests.streams import ALL, World, open_world, opened, seqs, take_signals, take_until, versions, watched
from tests.validators import Truth, check, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.events import Frame, Subscription
    from coherence_grpc.tokens import Cursor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def test_r6_a_signal_stored_once_is_one_event_however_often_it_is_sent(world: World) -> None:
    item = an_item()
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        for _ in range(5):
            await world.append(item)
        await world.append()

        assert await take_signals(frames, 2) == [1, 2]


async def test_an_event_carries_the_signal_its_times_and_its_trace(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world.clock.advance(5)
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        appended = await world.append(an_item(ts=NOON), traceparent=trace)
        (batch,) = await take_until(frames, bool)

    assert isinstance(batch, Batch)
    (event,) = batch.events
    assert (event.kind, event.tenant_id) == (EventKind.SIGNAL_STORED, TENANT)
    assert (event.occurred_at, event.recorded_at, event.traceparent) == (NOON, NOON + 5, trace)
    assert event.signal is not None
    assert (event.signal.item, event.signal.seq) == (appended.stored[0], 1)
    assert event.cursor.hash_prefix == appended.head.head_hash[:8]


async def test_an_event_is_the_same_pushed_and_read_back(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await world.append(an_item(), traceparent="00-1-2-01")
        await world.publish(changed=True)
        pushed = await take_until(frames, lambda taken: bool(versions(taken)))

    async with world.subscribe(Position.EARLIEST) as frames:
        await opened(frames)
        read = await take_until(frames, lambda taken: bool(versions(taken)))

    assert contents(pushed) == contents(read)


async def test_what_is_not_pushed_is_found_in_the_stores(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        await world.append_many(3, push=False)
        await world.publish(changed=True, push=False)
        history = await take_until(frames, lambda taken: bool(versions(taken)))

    check(seen(history), Truth(upto=3, status_changes=[1], latest_version=1))


async def test_pushes_that_miss_something_repeat_or_come_in_disorder_change_nothing(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        first, second, third = [await world.append_many(2, push=False) for _ in range(3)]
        score = await world.publish(changed=True, push=False)
        for appended in (third, first, first, second):
            world.hub.appended(appended)
        world.hub.published(score)
        world.hub.published(score)
        history = await take_until(frames, lambda taken: bool(versions(taken)))

    check(seen(history), Truth(upto=6, status_changes=[1], latest_version=1))


async def test_more_pushes_at_once_than_are_held_are_read_from_the_log(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        appended = [await world.append_many(2, push=False) for _ in range(300)]

        for one in appended:
            world.hub.appended(one)

        assert await take_signals(frames, 600) == list(range(1, 601))


async def test_a_cursor_newer_than_the_ring_waits_for_it(world: World) -> None:
    async with world.subscribe(Position.LATEST) as watching:
        await opened(watching)
        await world.append_many(3, push=False)
        await world.publish(changed=True, push=False)

        async with world.subscribe(Position.LATEST) as frames:
            first = await opened(frames)
            await world.append_many(2, push=False)
            history = await take_until(frames, lambda taken: len(seqs(taken)) >= 2)

    assert (first.cursor.seq, first.cursor.version) == (3, 1)
    assert (seqs(history), versions(history)) == ([4, 5], [])


async def test_a_score_pushed_before_its_entries_waits_for_them(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        appended = await world.append_many(2, push=False)
        await world.publish(changed=True)
        world.hub.appended(appended)
        history = await take_until(frames, lambda taken: bool(versions(taken)))

    check(seen(history), Truth(upto=2, status_changes=[1], latest_version=1))


async def test_subscribers_at_the_same_place_get_the_same_batch_object(world: World) -> None:
    async with world.subscribe(Position.LATEST) as one, world.subscribe(Position.LATEST) as other:
        await opened(one)
        await opened(other)

        await world.append_many(3)
        (first,), (second,) = await take_until(one, bool), await take_until(other, bool)

    assert first is second


async def test_subscribers_with_other_filters_share_the_events(world: World) -> None:
    only_ci = EventFilter(sources=frozenset({"ci"}))
    async with world.subscribe(Position.LATEST) as one, world.subscribe(Position.LATEST, filter=only_ci) as other:
        await opened(one)
        await opened(other)

        await world.append(an_item(source="prod"), an_item(source="ci"))
        (first,), (second,) = await take_until(one, bool), await take_until(other, bool)

    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert first.events[1] is second.events[0]


async def test_a_batch_holds_at_most_max_batch_events(world: World) -> None:
    await world.append_many(7)

    async with world.subscribe(max_batch=3) as frames:
        await opened(frames)
        history = await take_until(frames, lambda taken: len(seqs(taken)) >= 7)

    assert [len(frame.events) for frame in history if isinstance(frame, Batch)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        (EventFilter(sources=frozenset({"ci"})), [1, 2]),
        (EventFilter(types=frozenset({"deploy"})), [2, 3]),
        (EventFilter(min_value_q=500_000_000), [2, 3]),
        (EventFilter(min_value_q=500_000_001), [3]),
        (EventFilter(max_value_q=500_000_000), [1, 2]),
        (EventFilter(sources=frozenset({"ci"}), types=frozenset({"deploy"})), [2]),
    ],
)
async def test_a_filter_narrows_signals(world: World, narrow: EventFilter, expected: list[int]) -> None:
    await world.append(
        an_item(source="ci", type="build", value=0.1),
        an_item(source="ci", type="deploy", value=0.5),
        an_item(source="prod", type="deploy", value=0.9),
    )

    pulled = await world.hub.pull(TENANT, start=Position.EARLIEST, filter=narrow, max_events=10, wait_s=0)

    assert [event.signal.seq for event in pulled.events if event.signal is not None] == expected


async def test_a_filter_narrows_scores_by_kind_and_status(world: World) -> None:
    await world.append()
    await world.publish(800_000, changed=True)
    await world.publish(100_000, changed=True)
    await world.publish(200_000)
    critical = EventFilter(kinds=frozenset({EventKind.SCORE_STATUS_CHANGED}), statuses=frozenset({Status.CRITICAL}))

    pulled = await world.hub.pull(TENANT, start=Position.EARLIEST, filter=critical, max_events=10, wait_s=0)

    assert [event.score.version for event in pulled.events if event.score is not None] == [2]


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


async def test_an_event_on_a_quiet_stream_is_sent_at_once(world: World) -> None:
    async with world.subscribe(Position.LATEST, coalesce_s=1.0) as frames:
        await opened(frames)
        await world.append()
        begun = asyncio.get_running_loop().time()

        await take_signals(frames, 1)

        assert asyncio.get_running_loop().time() - begun < 0.5


async def test_r13_a_subscriber_that_never_reads_is_ended_with_a_resume_cursor_and_slows_nobody(tmp_path: Path) -> None:
    lagged: asyncio.Future[Cursor] = asyncio.get_running_loop().create_future()
    async with open_world(tmp_path, lag_s=1) as world, asyncio.timeout(30), asyncio.TaskGroup() as group:
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
        behind = await stack.enter_async_context(world.subscribe(Position.EARLIEST))
        latest = (await opened(idle)).cursor
        start = (await opened(behind)).cursor

        await store.aclose()

        assert [await anext(idle) for _ in range(2)] == [Bookmark(latest, clock.now())] * 2
        with pytest.raises(StoreDown):
            await anext(behind)
        assert behind.resume_cursor == start


async def test_tenants_do_not_see_each_other(world: World) -> None:
    async with world.subscribe(Position.LATEST, tenant_id="other") as frames:
        await opened(frames)
        await world.append_many(3)

        appended = await world.append(tenant_id="other")
        (batch,) = await take_until(frames, bool)

    assert isinstance(batch, Batch)
    assert [event.signal.item for event in batch.events if event.signal is not None] == list(appended.stored)


async def test_a_subscriber_far_behind_the_ring_catches_up_from_the_log(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, capacity=32) as world,
        world.subscribe(Position.LATEST, max_batch=10) as slow,
        world.subscribe(Position.LATEST) as quick,
    ):
        await opened(slow)
        await opened(quick)
        for _ in range(30):
            await world.append_many(10)
            await world.publish(changed=True)
            await take_signals(quick, 10)

        history = await take_until(slow, lambda taken: len(versions(taken)) >= 30)

    check(seen(history), Truth(upto=300, status_changes=range(1, 31), latest_version=30))


async def test_many_subscribers_under_load_all_see_the_same(world: World) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        readers = [group.create_task(read_all(world.subscribe(coalesce_s=c / 100), 500)) for c in range(20)]
        for _ in range(100):
            await world.append_many(5)

    assert all(reader.result() == list(range(1, 501)) for reader in readers)


async def read_all(frames: Subscription, count: int) -> list[int]:
    async with frames:
        await opened(frames)
        return await take_signals(frames, count)


def contents(frames: list[Frame]) -> list[object]:
    return [
        (e.kind, e.cursor, e.occurred_at, e.recorded_at, e.signal, e.score, e.traceparent)
        for frame in frames
        if isinstance(frame, Batch)
        for e in frame.events
    ]
