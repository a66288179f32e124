"""Streams that are cut, restarted, started anywhere: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import CursorExpired
from coherence_grpc.events import Batch, Bookmark, Closing, Event, EventFilter, EventKind, Gap, Position
from coherence_grpc.model import DAY, SECOND, Retention, Tags
from tests.builders import TENANT, ManualClock, a_provenance, an_item
from tests.streams import open_world, opened, seqs, take_signals, take_until, versions
from tests.validators import SawGap, Truth, check, seen, seen_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from coherence_grpc.events import Frame, Start
    from coherence_grpc.tokens import Cursor
    from tests.streams import World
    from tests.validators import Seen

pytestmark = pytest.mark.anyio

SHORT = Tags(retention=Retention.SHORT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def write_at_random(world: World, rng: Random, steps: int, pushed: float) -> Truth:
    """Signals and scores in a random mix, each pushed to the hub with that probability."""
    changes: list[int] = []
    version = 0
    for _ in range(steps):
        push = rng.random() < pushed
        if rng.random() < 0.7:
            await world.append_many(rng.randint(1, 6), push=push)
        else:
            changed = rng.random() < 0.3
            version = (await world.publish(changed=changed, push=push)).version
            changes += [version] if changed else []
    return Truth(upto=(await world.signals.head(TENANT)).seq, status_changes=changes, latest_version=version)


class CutReader:
    """Reads a few events at a time, is cut somewhere inside a frame, and resumes after the last event it used."""

    def __init__(self, world: World, rng: Random) -> None:
        self.history: list[Seen] = []
        self.cursor: Cursor | None = None
        self.connections = 0
        self._world = world
        self._rng = rng

    async def read(self, events: int) -> None:
        """One connection, cut after that many events, or when a bookmark says that there is nothing for now."""
        self.connections += 1
        start: Start = Position.EARLIEST if self.cursor is None else self.cursor
        frames = self._world.subscribe(start, heartbeat_s=0.02, max_batch=self._rng.choice([1, 7, 100]))
        async with frames:
            async for frame in frames:
                events -= self._use(frame, events)
                if events <= 0 or isinstance(frame, Bookmark):
                    return

    def _use(self, frame: Frame, limit: int) -> int:
        assert not isinstance(frame, Closing)
        if not isinstance(frame, Batch):
            self.cursor = frame.cursor
            return 0
        for event in frame.events[:limit]:
            self.history.append(seen_event(event))
            self.cursor = event.cursor
        return len(frame.events[:limit])


@pytest.mark.parametrize("pushed", [1.0, 0.0, 0.6], ids=["pushes", "polling", "mixed"])
@pytest.mark.parametrize("capacity", [16, 4096], ids=["small-ring", "large-ring"])
async def test_a_subscriber_cut_50_times_sees_every_signal_once_in_order_and_every_status_change(
    tmp_path: Path, pushed: float, capacity: int
) -> None:
    rng = Random(f"{pushed}-{capacity}")  # noqa: S311 - a seed makes the run repeatable
    async with open_world(tmp_path, capacity=capacity) as world, asyncio.timeout(50):
        reader = CutReader(world, rng)
        writing = asyncio.create_task(write_at_random(world, rng, 300, pushed))

        while reader.connections < 50 or not writing.done():
            await reader.read(rng.randint(1, 40))
        truth = await writing
        latest = (await world.hub.position(TENANT, Position.LATEST)).latest
        while reader.cursor != latest:
            await reader.read(10_000)

    assert reader.connections >= 50
    check(reader.history, truth)


async def test_a_cursor_is_good_after_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.append_many(10)
        await world.publish(changed=True)
        async with world.subscribe() as frames:
            await opened(frames)
            before = await take_until(frames, lambda taken: bool(versions(taken)))
        await world.append_many(5)
        await world.publish()

    async with open_world(tmp_path) as world, world.subscribe(last_cursor(before)) as frames:
        await opened(frames)
        after = await take_until(frames, lambda taken: bool(versions(taken)))

    check(seen(before + after), Truth(upto=15, status_changes=[1], latest_version=2))


async def test_a_replay_of_many_pages_joins_what_happens_meanwhile(world: World) -> None:
    await world.append_many(1000)
    await world.append_many(600)
    await world.publish(changed=True)

    async with world.subscribe(max_batch=1000) as frames:
        await opened(frames)
        history = await take_until(frames, lambda taken: len(seqs(taken)) >= 1200)
        await world.append_many(3)
        await world.publish(changed=True)
        history += await take_until(frames, lambda taken: 2 in versions(taken))

    check(seen(history), Truth(upto=1603, status_changes=[1, 2], latest_version=2))


async def test_subscribers_that_resume_at_one_place_share_what_is_read(world: World) -> None:
    await world.append_many(10)

    async with world.subscribe(Position.EARLIEST) as one, world.subscribe(Position.EARLIEST) as other:
        await opened(one)
        await opened(other)
        first, second = await anext(one), await anext(other)

    assert isinstance(first, Batch)
    assert first is second


async def test_updates_are_latest_wins_on_replay_and_status_changes_are_not(world: World) -> None:
    for changed in (True, False, False, True, False, False, False):
        await world.append()
        await world.publish(changed=changed)

    async with world.subscribe() as frames:
        await opened(frames)
        history = await take_until(frames, lambda taken: 7 in versions(taken))

    assert versions(history) == [1, 4, 7]
    check(seen(history), Truth(upto=7, status_changes=[1, 4], latest_version=7))


async def test_a_reader_of_status_changes_replays_them_with_cursors_that_resume_exactly(world: World) -> None:
    for changed in (True, False, True, True):
        await world.append_many(3)
        await world.publish(changed=changed)
    await world.append_many(2)
    only_changes = EventFilter(kinds=frozenset({EventKind.SCORE_STATUS_CHANGED}))
    async with world.subscribe(filter=only_changes) as frames:
        await opened(frames)
        (batch,) = await take_until(frames, lambda taken: len(versions(taken)) == 3)

    assert isinstance(batch, Batch)
    second = batch.events[1].cursor
    async with world.subscribe(second) as frames:
        await opened(frames)
        rest = await take_until(frames, lambda taken: len(seqs(taken)) >= 5)

    assert versions([batch]) == [1, 3, 4]
    assert (second.seq, second.version) == (9, 3)
    assert seqs(rest) == [10, 11, 12, 13, 14]
    assert versions(rest) == [4]


async def test_earliest_starts_at_the_oldest_entry(world: World) -> None:
    await world.append_many(3)

    async with world.subscribe(Position.EARLIEST) as frames:
        first = await opened(frames)

        assert await take_signals(frames, 3) == [1, 2, 3]
    assert first.cursor.seq == 0
    assert first.earliest == first.cursor


async def test_earliest_of_an_empty_log_does_not_miss_what_is_stored_meanwhile(world: World) -> None:
    async def first_of(tenant_id: str) -> list[int]:
        async with world.subscribe(Position.EARLIEST, tenant_id=tenant_id) as frames:
            await opened(frames)
            return await take_signals(frames, 1)

    readers: list[asyncio.Task[list[int]]] = []
    async with asyncio.TaskGroup() as group:
        for tenant_id in (f"tenant-{n}" for n in range(20)):
            storing = group.create_task(world.append(tenant_id=tenant_id))
            while not storing.done():
                readers.append(group.create_task(first_of(tenant_id)))
                await asyncio.sleep(0)

    assert all(reader.result() == [1] for reader in readers)


async def test_latest_sends_only_what_comes_from_now_on(world: World) -> None:
    await world.append_many(3)
    await world.publish(changed=True)

    async with world.subscribe(Position.LATEST) as frames:
        first = await opened(frames)
        await world.append()

        history = await take_until(frames, lambda taken: bool(seqs(taken)))
    assert (first.cursor.seq, first.cursor.version) == (3, 1)
    assert seqs(history) == [4]
    assert versions(history) == []


async def test_an_instant_starts_at_what_was_recorded_at_or_after_it(world: World) -> None:
    await world.append_many(2)
    await world.publish(changed=True)
    world.clock.advance(SECOND)
    await world.append_many(2)
    await world.publish(changed=True)

    async with world.subscribe(world.clock.now()) as frames:
        await opened(frames)

        history = await take_until(frames, lambda taken: bool(versions(taken)))
    assert seqs(history) == [3, 4]
    assert versions(history) == [2]


async def test_a_cursor_beyond_the_head_is_expired_and_names_the_range(world: World) -> None:
    await world.append_many(3)
    latest = (await world.hub.position(TENANT, Position.LATEST)).cursor

    with pytest.raises(CursorExpired, match="entry 4, which is not in the log") as caught:
        await anext(world.subscribe(latest._replace(seq=4)))

    assert caught.value.metadata == {"earliest_seq": "1", "latest_seq": "3"}


@pytest.mark.parametrize(
    "change",
    [
        lambda cursor: cursor._replace(signal_epoch=99),
        lambda cursor: cursor._replace(score_epoch=99),
        lambda cursor: cursor._replace(hash_prefix=b"another!"),
        lambda cursor: cursor._replace(version=1),
    ],
    ids=["signal-epoch", "score-epoch", "hash", "version"],
)
async def test_a_cursor_of_another_history_is_expired(world: World, change: Callable[[Cursor], Cursor]) -> None:
    await world.append_many(3)
    latest = (await world.hub.position(TENANT, Position.LATEST)).cursor

    with pytest.raises(CursorExpired, match="POSITION_EARLIEST"):
        await anext(world.subscribe(change(latest)))


async def test_erased_entries_come_as_one_gap(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_world(tmp_path, clock=clock) as world:
        await world.append(*(an_item(ts=clock.now()) for _ in range(700)), tags=SHORT)
        await world.append_many(2)
        start = (await world.hub.position(TENANT, Position.EARLIEST)).cursor
        await prune_after_a_month(world)

        async with world.subscribe(start) as frames:
            await opened(frames)
            history = await take_until(frames, lambda taken: len(seqs(taken)) >= 2)

    assert seen(history)[0] == SawGap(1, 700)
    check(seen(history), Truth(upto=703, silent=[703]))


async def test_a_gap_tells_the_position_after_it_and_why(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.append(*(an_item() for _ in range(4)), tags=SHORT)
        start = (await world.hub.position(TENANT, Position.EARLIEST)).cursor
        await prune_after_a_month(world)

        async with world.subscribe(start) as frames:
            await opened(frames)
            (gap,) = await take_until(frames, bool)

    assert isinstance(gap, Gap)
    assert (gap.from_seq, gap.to_seq, gap.cursor.seq) == (1, 4, 4)
    assert "erased" in gap.reason


async def test_earliest_lies_after_what_was_erased(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.append(*(an_item() for _ in range(4)), tags=SHORT)
        await world.append_many(2)
        await prune_after_a_month(world)

        positions = await world.hub.position(TENANT, Position.EARLIEST)

    assert (positions.earliest_seq, positions.latest_seq, positions.cursor.seq) == (5, 7, 4)


async def test_a_reader_of_scores_is_not_told_of_erased_signals(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.append(*(an_item() for _ in range(4)), tags=SHORT)
        await world.publish(changed=True)
        start = (await world.hub.position(TENANT, Position.EARLIEST)).cursor._replace(version=0)
        await prune_after_a_month(world)
        only_scores = EventFilter(kinds=frozenset({EventKind.SCORE_STATUS_CHANGED}))

        async with world.subscribe(start, filter=only_scores) as frames:
            await opened(frames)
            history = await take_until(frames, bool)

    assert versions(history) == [1]


async def test_what_was_erased_from_the_log_is_not_sent_from_memory(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path) as world,
        world.subscribe(Position.LATEST, max_batch=2) as slow,
        world.subscribe(Position.LATEST) as quick,
    ):
        await opened(slow)
        await opened(quick)
        await world.append(*(an_item() for _ in range(6)), tags=SHORT)
        assert await take_signals(slow, 2) == [1, 2]
        await take_signals(quick, 6)

        await prune_after_a_month(world)
        await world.append()
        await take_signals(quick, 1)
        history = await take_until(slow, lambda taken: bool(seqs(taken)))

    assert seen(history)[0] == SawGap(3, 6)
    assert seqs(history) == [8]


async def test_a_stream_ends_with_its_generator_closed(world: World) -> None:
    async with aclosing(world.subscribe()) as frames:
        await opened(frames)

    with pytest.raises(StopAsyncIteration):
        await anext(frames)


async def prune_after_a_month(world: World) -> None:
    world.clock.advance(32 * DAY)
    pruning = a_provenance(received_at=world.clock.now())
    await world.signals.prune(TENANT, now=world.clock.now(), provenance=pruning, limit=10_000, dry_run=False)


def last_cursor(frames: list[Frame]) -> Cursor:
    events: list[Event] = [event for frame in frames if isinstance(frame, Batch) for event in frame.events]
    return events[-1].cursor
