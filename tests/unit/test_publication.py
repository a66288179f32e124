"""Rows follow scores: one version after the other, each told once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.materialize import publisher
from coherence_grpc.model import SECOND, WINDOW, Status
from tests.builders import NOON, TENANT, ManualClock, a_score, an_item
from tests.faults import InterposedScores, InterposedSignals, until
from tests.unit.materializing import World, covers, open_world, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def long_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant's next publication never comes, unless its status changes."""
    monkeypatch.setattr(publisher, "HOLD_S", 3600.0)


async def test_the_first_publication_is_version_1_and_told_once(world: World) -> None:
    await world.store(an_item(value=0.2))

    row = await world.row_that(covers(1))

    assert (row.version, row.status, row.status_changed) == (1, Status.CRITICAL, True)
    assert shown(row) == shown(await world.evaluate())
    await until(lambda: bool(world.announced))
    assert world.announced == [row]
    assert await world.signals.published() == {TENANT: (row.score_epoch, 1)}
    assert (await world.evaluate()).version == 1


async def test_a_burst_is_published_in_fewer_rows_and_the_last_one_is_right(world: World) -> None:
    for n in range(200):
        await world.store(an_item(value=0.8 + n / 1000))

    row = await world.row_that(covers(200))

    history = await world.history()
    assert [score.version for score in history] == list(range(1, row.version + 1))
    assert row.version < 100
    assert shown(row) == shown(await world.evaluate())
    await until(lambda: [score.version for score in world.announced] == [score.version for score in history])


@pytest.mark.parametrize("slow", ["tenants", "publish"])
async def test_ac_data_05_a_server_that_is_slow_at_first_does_not_put_rows_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    # With these a pause that grows with the slow answer outlasts the test.
    monkeypatch.setattr(publisher, "PAUSE_SHARE", 10_000)
    monkeypatch.setattr(publisher, "BACK_OFF_S", 60.0)
    async with open_world(tmp_path, running=False) as world:
        store = world.signals if slow == "tenants" else world.scores
        store.hold(slow)
        async with world.materializer:
            await world.store(an_item(value=0.9))
            await until(lambda: store.calls[slow] == 1)
            asyncio.get_running_loop().call_later(0.05, store.release)

            await world.row_that(covers(1))
            await world.store(an_item(value=0.1))
            await world.row_that(covers(2))


@pytest.mark.usefixtures("long_hold")
async def test_a_change_of_status_is_published_at_once_and_other_changes_wait(world: World) -> None:
    await world.store(an_item(value=0.9))
    await world.row_that(covers(1))

    await world.store(an_item(value=0.8), tenant_id=TENANT)
    await world.store(an_item(), tenant_id="other")
    await world.row_that(covers(1), "other")
    waiting = await world.row()
    await world.store(an_item(value=0.0))
    row = await world.row_that(covers(3))

    assert waiting is not None
    assert waiting.version == 1
    assert (row.version, row.status, row.status_changed) == (2, Status.WARN, True)


async def test_the_same_score_and_status_keep_the_version_and_are_not_told(world: World) -> None:
    await world.store(an_item(value=0.9))
    first = await world.row_that(covers(1))

    await world.store(an_item(value=0.9, ts=NOON - SECOND))
    row = await world.row_that(covers(2))

    assert (row.version, row.signal_count) == (1, 2)
    assert row.valid_until == NOON - SECOND + WINDOW + 1
    assert row.status_changed == first.status_changed
    assert len(await world.history()) == 1
    await until(lambda: world.announced == [first])


async def test_ac_data_05_ageing_out_moves_the_row_though_nothing_arrives(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON - SECOND), an_item(value=1.0))
    await world.row_that(covers(1 + 1))

    world.clock.advance(WINDOW - SECOND + 1)
    half = await world.row_that(lambda row: row.signal_count == 1)
    world.clock.advance(SECOND)
    none = await world.row_that(lambda row: row.signal_count == 0)

    assert (half.score_ppm, half.status, half.status_changed) == (1_000_000, Status.HEALTHY, True)
    assert (none.score_ppm, none.status, none.valid_until) == (None, Status.UNKNOWN, None)
    await until(lambda: [score.version for score in world.announced] == [1, 2, 3])


async def test_a_signal_dated_ahead_moves_the_row_when_its_time_comes(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON + 300 * SECOND))
    before = await world.row_that(covers(1))

    world.clock.advance(300 * SECOND)
    after = await world.row_that(lambda row: row.signal_count == 1)

    assert (before.status, before.version, before.valid_until) == (Status.UNKNOWN, 1, NOON + 300 * SECOND)
    assert (after.score_ppm, after.version) == (200_000, 2)


async def test_a_row_that_fell_due_while_nobody_ran_is_brought_up_to_date(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item())
        await world.row_that(covers(1))

    async with open_world(tmp_path, clock=ManualClock(NOON + 2 * WINDOW)) as world:
        row = await world.row_that(lambda row: row.status is Status.UNKNOWN)

        assert row.version == 2


async def test_a_crash_between_commit_and_publication_is_made_up_for_at_the_start(tmp_path: Path) -> None:
    async with open_world(tmp_path, running=False) as world:
        await world.store(an_item(), tell=False)
        await world.store(an_item(), tenant_id="other", tell=False)

    async with open_world(tmp_path) as world:
        await world.row_that(covers(1))
        await world.row_that(covers(1), "other")
        assert world.materializer.keeping_up


async def test_closing_publishes_what_is_behind(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.1))
        await world.row_that(covers(1))
        await world.store(an_item(value=0.2))

    async with open_world(tmp_path, running=False) as world:
        row = await world.row()

        assert row is not None
        assert row.as_of_seq == 2


async def test_r7_who_loses_the_fence_stays_silent_and_goes_on_from_the_newer_row(world: World) -> None:
    appended = await world.store(an_item(value=0.9))
    await world.row_that(covers(1))
    for version in range(2, 6):
        foreign = a_score(
            version=version, head_hash=appended.head.head_hash, score_ppm=version, score_epoch=world.scores.epoch
        )
        assert await world.scores._publish([foreign]) == [True]

    await world.store(an_item(value=0.7))
    row = await world.row_that(covers(2))

    assert (row.version, row.score_ppm) == (6, 800_000)
    await until(lambda: [score.version for score in world.announced] == [1, 6])


async def test_r22_a_row_never_goes_back_in_time_though_the_clock_does(tmp_path: Path) -> None:
    ahead = NOON + 600 * SECOND
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.9))
        world.clock.advance(ahead - NOON)
        await world.store(an_item(value=0.8, ts=NOON), tenant_id="other")
        world.materializer._publisher.touch(TENANT)
        await world.store(an_item(value=0.9, ts=NOON + 1))
        await world.row_that(lambda row: row.window_end == ahead)

    clock = ManualClock(NOON)
    async with open_signal_store(tmp_path, ManualClock()) as signals, open_score_store(tmp_path) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        async with world.materializer:
            await world.store(an_item(value=0.1, ts=NOON))
            row = await world.row_that(covers(3))

            assert (await world.evaluate()).window_end == ahead
        assert (row.window_end, row.version) == (ahead, 2)


@pytest.mark.parametrize(
    ("backfills", "expected"), [([True], True), ([True, True], True), ([False], False), ([True, False], False)]
)
async def test_a_row_that_only_backfilled_signals_moved_says_so(
    world: World, backfills: Sequence[bool], expected: bool
) -> None:
    world.scores.hold("publish")
    await world.store(an_item(value=0.1), tenant_id="first")
    await until(lambda: world.scores.calls["publish"] == 1)
    for backfill in backfills:
        await world.store(an_item(value=0.2), backfill=backfill)
    world.scores.release()

    row = await world.row_that(covers(len(backfills)))

    assert row.backfill is expected
    await world.store(an_item(value=0.9), backfill=True)
    assert (await world.row_that(covers(len(backfills) + 1))).backfill


async def test_a_row_that_time_moved_too_is_not_backfilled(world: World) -> None:
    await world.store(an_item(value=0.9), backfill=True)
    await world.row_that(covers(1))
    world.scores.hold("due")
    asked = world.scores.calls["due"]
    world.clock.advance(WINDOW + 1)
    await until(lambda: world.scores.calls["due"] > asked)
    await world.store(an_item(value=0.1, ts=NOON + WINDOW), backfill=True)
    world.scores.release()

    row = await world.row_that(covers(2))

    assert (row.version, row.backfill) == (2, False)
