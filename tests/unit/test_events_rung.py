"""What another process did reaches a stream when the doorbell rings, and not only when the stores are asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.events import Position, tail, tails
from coherence_grpc.ports import News
from tests.builders import TENANT
from tests.faults import until
from tests.streams import World, open_world, opened, take_signals, take_until, versions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(tails, "POLL_S", 3600.0)
    async with open_world(tmp_path) as world:
        yield world


async def test_r12_entries_that_another_process_stored_come_when_it_rings(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await world.append_many(3, push=False)

        world.hub.rung(News(TENANT, 1, 3))

        assert await take_signals(frames, 3) == [1, 2, 3]


async def test_a_score_that_another_process_published_comes_when_it_rings(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await world.append_many(1)
        await world.publish(changed=True, push=False)

        world.hub.rung(News(TENANT, 0, 0, version=1))

        assert versions(await take_until(frames, lambda taken: bool(versions(taken)))) == [1]


async def test_when_anything_may_have_happened_the_stores_are_asked(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await world.append_many(2, push=False)

        world.hub.rung(News(TENANT, 0, 0))

        assert await take_signals(frames, 2) == [1, 2]


async def test_rings_in_a_row_lose_nothing_and_are_read_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "HEED_S", 0.2)
    readings: list[str] = []
    latest = world.hub._log.latest

    async def counted(tenant_id: str) -> object:
        readings.append(tenant_id)
        return await latest(tenant_id)

    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await until(lambda: world.hub._tails._tails[TENANT]._reading is None)
        monkeypatch.setattr(world.hub._log, "latest", counted)
        for seq in range(1, 51):
            await world.append(push=False)
            world.hub.rung(News(TENANT, seq, seq))

        assert await take_signals(frames, 50) == list(range(1, 51))
        assert len(readings) < 10


async def test_what_this_process_did_is_not_read_for_its_own_ring(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await until(lambda: world.hub._tails._tails[TENANT]._reading is None)
        monkeypatch.setattr(world.hub._log, "latest", None)

        appended = await world.append()
        world.hub.rung(News(TENANT, 1, appended.head.seq))
        await world.publish(changed=True)
        world.hub.rung(News(TENANT, 0, 0, version=1))

        assert versions(await take_until(frames, lambda taken: bool(versions(taken)))) == [1]


async def test_a_ring_for_a_tenant_that_nobody_watches_any_more_is_nothing(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        world.hub.rung(News(TENANT, 1, 1))
    world.hub.rung(News(TENANT, 2, 2))

    await asyncio.sleep(0)

    assert TENANT not in world.hub._tails._tails
