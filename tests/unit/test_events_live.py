"""Streams on what happens now: order, sharing, pushes that can't be relied on, filters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.events import Batch, EventFilter, EventKind, Position
from coherence_grpc.model import Status
from tests.builders import NOON, TENANT, an_item
from tests.streams import World, open_world, opened, read_all, seqs, take_signals, take_until, versions
from tests.validators import Truth, check, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.events import Frame

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


async def test_an_event_on_a_quiet_stream_is_sent_at_once(world: World) -> None:
    async with world.subscribe(Position.LATEST, coalesce_s=1.0) as frames:
        await opened(frames)
        await world.append()
        begun = asyncio.get_running_loop().time()

        await take_signals(frames, 1)

        assert asyncio.get_running_loop().time() - begun < 0.5


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


def contents(frames: list[Frame]) -> list[object]:
    return [
        (e.kind, e.cursor, e.occurred_at, e.recorded_at, e.signal, e.score, e.traceparent)
        for frame in frames
        if isinstance(frame, Batch)
        for e in frame.events
    ]
