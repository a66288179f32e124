"""Pulling events by unary calls, and asking for positions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import CursorExpired
from coherence_grpc.events import EventFilter, EventKind, Gap, Position
from coherence_grpc.model import DAY, SECOND, Retention, Tags
from tests.builders import TENANT, a_provenance, an_item
from tests.streams import ALL, open_world, until, watched
from tests.validators import SawGap, Truth, check, seen_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.events import Pulled, Start
    from tests.streams import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def pull(world: World, start: Start, *, max_events: int = 100, wait_s: float = 0) -> Pulled:
    return await world.hub.pull(TENANT, start=start, filter=ALL, max_events=max_events, wait_s=wait_s)


async def test_pulling_on_and_on_sees_everything_once(world: World) -> None:
    for changed in (True, False, True, False):
        await world.append_many(9)
        await world.publish(changed=changed)

    pulled = await pull(world, Position.EARLIEST, max_events=7)
    history = [*pulled.events]
    while pulled.has_more:
        pulled = await pull(world, pulled.cursor, max_events=7)
        history += pulled.events

    check([seen_event(e) for e in history], Truth(upto=36, status_changes=[1, 3], latest_version=4))


async def test_a_pull_returns_at_once_when_it_need_not_wait(world: World) -> None:
    pulled = await pull(world, Position.EARLIEST)

    assert (pulled.events, pulled.gaps, pulled.has_more) == ([], [], False)
    assert pulled.cursor.seq == 0


async def test_a_pull_waits_for_the_first_event(world: World) -> None:
    waiting = asyncio.create_task(pull(world, Position.LATEST, wait_s=8))
    await until(lambda: bool(watched(world)))

    await world.append()
    async with asyncio.timeout(5):
        pulled = await waiting

    assert [event.cursor.seq for event in pulled.events] == [1]


async def test_a_pull_gives_up_when_its_wait_is_over(world: World) -> None:
    pulled = await pull(world, Position.LATEST, wait_s=0.05)

    assert pulled.events == []
    assert not pulled.has_more


async def test_a_drain_ends_a_waiting_pull(world: World) -> None:
    waiting = asyncio.create_task(pull(world, Position.LATEST, wait_s=8))
    await until(lambda: bool(watched(world)))

    world.hub.drain()
    async with asyncio.timeout(5):
        pulled = await waiting

    assert pulled.events == []


async def test_a_pull_moves_over_what_is_filtered_out_and_says_that_there_is_more(world: World) -> None:
    for _ in range(20):
        await world.append_many(1000, push=False)
    nothing = EventFilter(sources=frozenset({"nobody"}))

    first = await world.hub.pull(TENANT, start=Position.EARLIEST, filter=nothing, max_events=10, wait_s=0)
    second = await world.hub.pull(TENANT, start=first.cursor, filter=nothing, max_events=10, wait_s=0)

    assert first.has_more
    assert 0 < first.cursor.seq < second.cursor.seq == 20_000
    assert not second.has_more


async def test_a_pull_names_erased_ranges(world: World) -> None:
    await world.append_many(1)
    await world.append(*(an_item() for _ in range(4)), tags=Tags(retention=Retention.SHORT))
    await world.append_many(1)
    start = (await world.hub.position(TENANT, Position.EARLIEST)).cursor
    world.clock.advance(32 * DAY)
    pruning = a_provenance(received_at=world.clock.now())
    await world.signals.prune(TENANT, now=world.clock.now(), provenance=pruning, limit=10, dry_run=False)

    pulled = await pull(world, start)

    assert [event.cursor.seq for event in pulled.events] == [1, 6]
    assert [SawGap(gap.from_seq, gap.to_seq) for gap in pulled.gaps] == [SawGap(2, 5)]
    assert isinstance(pulled.gaps[0], Gap)
    assert pulled.cursor.seq == 7


async def test_a_pull_from_an_expired_cursor_is_refused(world: World) -> None:
    cursor = (await world.hub.position(TENANT, Position.LATEST)).cursor

    with pytest.raises(CursorExpired):
        await pull(world, cursor._replace(seq=1))


async def test_a_position_comes_with_the_range_that_can_be_read(world: World) -> None:
    await world.append_many(2)
    await world.publish(changed=True)
    world.clock.advance(SECOND)
    await world.append_many(3)

    at = await world.hub.position(TENANT, world.clock.now())
    latest = await world.hub.position(TENANT, Position.LATEST)

    assert (at.cursor.seq, at.cursor.version) == (2, 1)
    assert (at.earliest_seq, at.latest_seq) == (1, 5)
    assert (at.earliest.seq, at.earliest.version, at.latest) == (0, 0, latest.cursor)


async def test_an_empty_tenant_has_positions_too(world: World) -> None:
    positions = await world.hub.position("nobody", Position.EARLIEST)

    assert (positions.earliest_seq, positions.latest_seq) == (0, 0)
    assert positions.cursor == positions.earliest == positions.latest


async def test_pulls_and_streams_agree_on_kinds(world: World) -> None:
    await world.append()
    await world.publish(changed=True)
    await world.publish()

    pulled = await pull(world, Position.EARLIEST)

    assert [event.kind for event in pulled.events] == [
        EventKind.SIGNAL_STORED,
        EventKind.SCORE_STATUS_CHANGED,
        EventKind.SCORE_UPDATED,
    ]
