"""Scores follow signals and time, whether rows follow them or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import StoreDown
from coherence_grpc.ingest import Records
from coherence_grpc.materialize import windows
from coherence_grpc.model import DAY, SECOND, WINDOW, Retention, ScoreSource, Status, Tags
from tests.builders import NOON, TENANT, ManualClock, an_item
from tests.faults import Grants, until
from tests.unit.materializing import World, covers, open_world, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.model import Item


pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_tenant_never_heard_of_is_unknown_and_leaves_no_trace(world: World) -> None:
    score = await world.evaluate("nobody")

    assert (score.score_ppm, score.status, score.signal_count, score.version) == (None, Status.UNKNOWN, 0, 0)
    assert (score.window_start, score.window_end, score.data_time) == (NOON - WINDOW, NOON, None)
    assert world.materializer._windows.peek("nobody") is None
    assert await world.row("nobody") is None


async def test_a_commit_is_in_the_next_evaluation(world: World) -> None:
    await world.store(an_item(value=0.2, weight=3))
    await world.evaluate()

    await world.store(an_item(value=1.0, weight=1, ts=NOON - SECOND))
    score = await world.evaluate()

    assert (score.score_ppm, score.status, score.signal_count) == (400_000, Status.CRITICAL, 2)
    assert (score.weight_q, score.data_time, score.as_of_seq) == (4 * 10**9, NOON, 2)
    assert (score.source, score.stale) == (ScoreSource.MATERIALIZED, False)
    assert score.head_hash == (await world.signals.head(TENANT)).head_hash


async def test_a_window_is_loaded_from_the_store_when_first_needed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.2), an_item(ts=NOON - WINDOW - 1), an_item(weight=0))

    async with open_world(tmp_path) as world:
        score = await world.evaluate()

        assert (score.score_ppm, score.signal_count, score.as_of_seq) == (200_000, 1, 3)


async def test_a_large_window_is_loaded_as_exactly_as_a_small_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(*(an_item(value=n / 100, ts=NOON - n) for n in range(100)), tell=False)
    monkeypatch.setattr(windows, "LARGE", 10)

    score = await world.evaluate()

    assert (score.score_ppm, score.signal_count) == (495_000, 100)


async def test_many_readers_share_one_loading(world: World) -> None:
    await world.store(an_item(), tell=False)

    async with asyncio.TaskGroup() as readers:
        for _ in range(50):
            readers.create_task(world.evaluate())

    assert world.signals.calls["window"] == 1


async def test_what_is_committed_while_a_window_loads_counts_once(world: World) -> None:
    await world.store(an_item(value=0.0), tell=False)
    world.signals.hold_answers("window")
    reading = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.answers["window"] == 1)

    await world.store(an_item(value=1.0))
    await world.store(an_item(value=1.0))
    world.signals.release()
    score = await reading

    assert (score.signal_count, score.as_of_seq, score.score_ppm) == (3, 3, 666_667)


async def test_what_is_committed_before_the_snapshot_and_told_after_counts_once(world: World) -> None:
    world.signals.hold("window")
    await world.store(an_item(), tell=False)
    reading = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.calls["window"] == 1)
    await world.store(an_item())
    world.signals.release()

    score = await reading

    assert (score.signal_count, score.as_of_seq) == (2, 2)


async def test_a_cancelled_reader_leaves_the_loading_to_the_others(world: World) -> None:
    await world.store(an_item(), tell=False)
    world.signals.hold("window")
    leaving, staying = asyncio.create_task(world.evaluate()), asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.calls["window"] == 1)

    leaving.cancel()
    world.signals.release()

    assert (await staying).signal_count == 1


async def test_entries_that_nobody_announced_are_read_from_the_log(world: World) -> None:
    await world.store(an_item(value=0.0))
    await world.evaluate()
    await world.store(an_item(value=1.0), tell=False)

    await world.store(an_item(value=1.0))
    score = await world.evaluate()

    assert (score.signal_count, score.as_of_seq, score.score_ppm) == (3, 3, 666_667)


async def test_an_evaluation_reaches_the_entry_asked_for_though_it_moves_no_score(world: World) -> None:
    await world.store(an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    await world.store(an_item(value=0.3, ts=world.clock.now()))
    assert (await world.evaluate()).as_of_seq == 2
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass

    score = await world.evaluate(seq=3)

    assert (score.as_of_seq, score.score_ppm) == (3, 300_000)
    assert score.head_hash == (await world.signals.head(TENANT)).head_hash


async def test_a_loading_that_fails_is_the_readers_error_and_the_next_one_loads_anew(world: World) -> None:
    await world.store(an_item(), tell=False)
    world.signals.failures["window"] = StoreDown("down")
    with pytest.raises(StoreDown):
        await world.evaluate()
    world.signals.failures.clear()

    assert (await world.evaluate()).signal_count == 1


async def test_ac_data_03_evaluating_computing_and_the_row_agree_over_any_history(world: World) -> None:
    random = Random(7)  # noqa: S311 - test data
    known: list[Item] = []
    for _ in range(40):
        now = world.clock.now()
        items = [
            an_item(
                value=random.choice((0.0, 1.0, random.random())),
                weight=random.choice((0.0, 1000.0, 999.999999999, 1000 * random.random())),
                ts=now - random.randrange(-300 * SECOND, WINDOW + 3600 * SECOND),
            )
            for _ in range(random.randrange(1, 30))
        ]
        # Some come again, some of those with another value: neither moves a score.
        again = random.sample(known, min(len(known), 5))
        await world.store(*items, *again, *(item._replace(value_q=1) for item in again), *items[:3])
        known += items
        world.clock.advance(random.choice((1, SECOND, 3600 * SECOND, WINDOW // 3)))

        live = await world.evaluate()
        computed = await world.materializer.as_of(TENANT, world.clock.now())

        assert replace(live, source=ScoreSource.COMPUTED, version=0, held=None) == replace(
            computed, version=0, held=None
        )
    last = await world.evaluate()
    assert shown(await world.row_that(lambda row: shown(row) == shown(last))) == shown(last)


async def test_switched_off_nothing_is_published_and_scores_are_computed(world: World) -> None:
    await world.store(an_item(value=0.2))
    await world.row_that(covers(1))
    world.enabled = False
    tries = world.scores.calls["publish"]

    await world.store(an_item(value=1.0))
    score = await world.evaluate()
    world.clock.advance(WINDOW + 1)
    later = await world.evaluate()

    assert (score.source, score.score_ppm, score.as_of_seq, score.version) == (ScoreSource.COMPUTED, 600_000, 2, 1)
    assert (later.source, later.status) == (ScoreSource.COMPUTED, Status.UNKNOWN)
    assert world.scores.calls["publish"] == tries
    assert not world.materializer.keeping_up


async def test_switched_on_again_it_catches_up(world: World) -> None:
    world.enabled = False
    await world.store(an_item(value=0.2))
    await world.evaluate()

    world.enabled = True

    assert (await world.row_that(covers(1))).score_ppm == 200_000
    assert (await world.evaluate()).source is ScoreSource.MATERIALIZED


@pytest.mark.parametrize("enabled", [True, False])
async def test_r22_by_a_clock_that_is_behind_a_score_is_never_older_than_the_row(world: World, enabled: bool) -> None:
    world.clock.advance(600 * SECOND)
    await world.store(an_item(ts=NOON))
    row = await world.row_that(covers(1))
    world.enabled = False
    behind = World(world.signals, world.scores, ManualClock(NOON))
    behind.enabled = enabled

    score = await behind.evaluate()

    assert (score.window_end, score.computed_at) == (row.window_end, row.computed_at)


async def test_computed_scores_are_shared_but_never_older_than_the_call(world: World) -> None:
    world.enabled = False
    await world.store(an_item())
    world.signals.hold_answers("totals")
    first = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.answers["totals"] == 1)
    await world.store(an_item())
    later = [asyncio.create_task(world.evaluate()) for _ in range(20)]
    await asyncio.sleep(0)
    world.signals.release()

    assert (await first).as_of_seq == 1
    assert {(await task).as_of_seq for task in later} == {2}
    assert world.signals.calls["totals"] == 2
