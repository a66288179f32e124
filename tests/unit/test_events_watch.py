"""Watching the scores of several tenants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import Draining, SubscriberLagged
from tests.streams import open_world, until, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.events import Watch
    from coherence_grpc.model import Score
    from tests.streams import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def take(watch: Watch, count: int) -> list[Score]:
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


async def test_a_watch_sends_what_is_published_after_it_was_opened(world: World) -> None:
    await world.publish(tenant_id="a")
    async with world.hub.watch(["a", "b"], status_changes_only=False) as watch:
        await watch.open()
        await world.publish(700_000, tenant_id="a")
        await world.publish(600_000, tenant_id="b")

        scores = await take(watch, 2)

    assert {(s.tenant_id, s.version, s.score_ppm) for s in scores} == {("a", 2, 700_000), ("b", 1, 600_000)}


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "polled"])
async def test_a_watch_skips_updates_when_it_lags_but_never_a_status_change(world: World, *, push: bool) -> None:
    async with world.hub.watch(["a"], status_changes_only=False) as watch:
        await watch.open()
        for changed in (True, False, True, False, False, False):
            await world.publish(tenant_id="a", changed=changed, push=push)

        scores = await take(watch, 3)
        while scores[-1].version < 6:
            scores += await take(watch, 1)

    assert [s.version for s in scores if s.status_changed] == [1, 3]
    assert [s.version for s in scores] == sorted({s.version for s in scores})


async def test_a_watch_of_status_changes_sends_nothing_else(world: World) -> None:
    async with world.hub.watch(["a"], status_changes_only=True) as watch:
        await watch.open()
        for changed in (True, False, True, False):
            await world.publish(tenant_id="a", changed=changed)

        scores = await take(watch, 2)

    assert [s.version for s in scores] == [1, 3]


async def test_a_watch_that_fell_behind_the_ring_reads_the_history(tmp_path: Path) -> None:
    async with open_world(tmp_path, capacity=8) as world, world.hub.watch(["a"], status_changes_only=True) as watch:
        await watch.open()
        for _ in range(40):
            await world.append_many(3, tenant_id="a")
            await world.publish(tenant_id="a", changed=True)

        scores = await take(watch, 40)

    assert [s.version for s in scores] == list(range(1, 41))


async def test_a_watch_ends_when_the_server_drains(world: World) -> None:
    async with world.hub.watch(["a"], status_changes_only=False) as watch:
        await watch.open()

        world.hub.drain()

        with pytest.raises(Draining):
            await take(watch, 1)


async def test_a_watch_that_takes_nothing_for_too_long_is_ended(tmp_path: Path) -> None:
    lagged = asyncio.Event()
    async with open_world(tmp_path, lag_s=0.5) as world:
        watch = world.hub.watch(["a"], status_changes_only=False, on_lagged=lagged.set)
        await watch.open()
        await world.publish(tenant_id="a")
        await take(watch, 1)

        async with asyncio.timeout(5):
            await lagged.wait()

        with pytest.raises(SubscriberLagged):
            await take(watch, 1)
        assert watched(world) == set()


async def test_a_watch_that_is_opened_and_not_read_is_ended_too(tmp_path: Path) -> None:
    lagged = asyncio.Event()
    async with open_world(tmp_path, lag_s=0.05) as world, asyncio.timeout(5):
        watch = world.hub.watch(["a"], status_changes_only=False, on_lagged=lagged.set)
        await watch.open()

        await lagged.wait()

        assert watched(world) == set()


async def test_a_watch_that_waits_never_lags(tmp_path: Path) -> None:
    async with open_world(tmp_path, lag_s=0.05) as world, world.hub.watch(["a"], status_changes_only=False) as watch:
        await watch.open()
        waiting = asyncio.create_task(take(watch, 1))
        over = asyncio.get_running_loop().time() + 0.2
        await until(lambda: asyncio.get_running_loop().time() > over)

        await world.publish(tenant_id="a")

        assert [score.version for score in await waiting] == [1]


async def test_a_watch_leaves_no_tail_behind(world: World) -> None:
    async with world.hub.watch(["a", "b"], status_changes_only=False) as watch:
        await watch.open()
        assert watched(world) == {"a", "b"}

    assert watched(world) == set()
