from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import DAY, SECOND, WINDOW, Appended, EntryKind, OnConflict, Score, Status
from coherence_grpc.policy import ScorePolicy, Veto, encode_policy
from coherence_grpc.score import quantise
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item
from tests.unit.materializing import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.model import Item

pytestmark = pytest.mark.anyio
HOUR = 3600 * SECOND


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def put(world: World, policy: ScorePolicy, kind: EntryKind = EntryKind.POLICY) -> int:
    entry = await world.signals.port.append_own(
        TENANT, kind, encode_policy(policy), a_provenance(), now=world.clock.now()
    )
    world.materializer.moved(TENANT, entry.seq)
    return entry.seq


async def replace_signal(world: World, item: Item) -> None:
    write = a_write(item, on_conflict=OnConflict.REPLACE)
    (appended,) = await world.signals.append([write], now=world.clock.now())
    assert isinstance(appended, Appended)
    world.materializer.appended(appended)


def throw_scores_away(directory: Path) -> None:
    for file in directory.glob("scores.db*"):
        file.unlink()


def held(score: Score) -> Status:
    assert score.held is not None
    return score.held.status


async def test_a_policy_moves_the_score_once_and_the_row_names_it(world: World) -> None:
    await world.store(an_item(source="a", value=1.0), an_item(source="b", value=0.0))
    before = await world.row_that(lambda row: row.as_of_seq == 2)

    seq = await put(world, ScorePolicy(type_weights=(("build", 2_000_000),), healthy_ppm=400_000))
    row = await world.row_that(lambda row: row.as_of_seq == seq)

    assert (before.score_ppm, before.status, before.policy_etag) == (500_000, Status.WARN, "")
    assert (row.score_ppm, row.status, row.version) == (500_000, Status.HEALTHY, before.version + 1)
    assert row.policy_etag == (await world.signals.port.policy(TENANT)).etag
    assert (row.weight_q, row.signal_count) == (4 * 10**9, 2)


async def test_what_is_committed_while_the_window_is_read_again_counts(world: World) -> None:
    await world.store(an_item(source="a", value=1.0))
    await world.row_that(lambda row: row.as_of_seq == 1)

    await put(world, ScorePolicy(source_cap_ppm=500_000))
    await world.store(*(an_item(source="b", value=0.0) for _ in range(9)))
    row = await world.row_that(lambda row: row.as_of_seq == 11)

    # Nine of one source count as five, half of all ten, against one of another.
    assert row.score_ppm == 166_667


async def test_a_veto_caps_the_status_until_its_signal_leaves(world: World) -> None:
    await put(world, ScorePolicy(vetoes=(Veto("cancelled", quantise(0.5), Status.CRITICAL),)))
    await world.store(*(an_item(value=1.0) for _ in range(9)), an_item(type="cancelled", value=0.4, ts=NOON - HOUR))
    vetoed = await world.row_that(lambda row: row.signal_count == 10)

    world.clock.advance(WINDOW - HOUR + 1)
    world.materializer.moved(TENANT, 11)
    row = await world.row_that(lambda row: row.signal_count == 9)

    assert (vetoed.score_ppm, vetoed.status) == (940_000, Status.CRITICAL)
    assert (row.score_ppm, row.status) == (1_000_000, Status.HEALTHY)


async def test_within_the_band_the_held_status_stays_and_no_change_is_told(world: World) -> None:
    await put(world, ScorePolicy(hysteresis_ppm=20_000))
    await world.store(an_item(value=0.76, signal_id="one"))
    await world.row_that(lambda row: row.signal_count == 1)

    await replace_signal(world, an_item(value=0.74, signal_id="one"))
    within = await world.row_that(lambda row: row.score_ppm == 740_000)
    await replace_signal(world, an_item(value=0.72, signal_id="one"))
    beyond = await world.row_that(lambda row: row.score_ppm == 720_000)

    assert (within.status, held(within), within.status_changed) == (Status.WARN, Status.HEALTHY, False)
    assert (beyond.status, held(beyond), beyond.status_changed) == (Status.WARN, Status.WARN, True)


async def test_a_status_takes_effect_when_it_has_lasted_though_nothing_arrives(world: World) -> None:
    await put(world, ScorePolicy(dwell_us=3 * HOUR))
    await world.store(an_item(value=0.9, signal_id="one"))
    await world.row_that(lambda row: row.signal_count == 1)
    await replace_signal(world, an_item(value=0.1, signal_id="one"))
    pending = await world.row_that(lambda row: row.score_ppm == 100_000)

    world.clock.advance(3 * HOUR)
    row = await world.row_that(lambda row: held(row) is Status.CRITICAL)

    assert (pending.status, held(pending), pending.status_changed) == (Status.CRITICAL, Status.HEALTHY, False)
    assert pending.valid_until == NOON + 3 * HOUR
    assert row.held is not None
    assert (row.held.since, row.held.pending, row.status_changed) == (NOON + 3 * HOUR, (), True)


async def test_without_data_nothing_is_held(world: World) -> None:
    await put(world, ScorePolicy(dwell_us=3 * HOUR, stale_after_us=HOUR))
    await world.store(an_item(value=0.9))
    fresh = await world.row_that(lambda row: row.signal_count == 1)

    world.clock.advance(HOUR + 1)
    row = await world.row_that(lambda row: row.status is Status.UNKNOWN)

    assert fresh.valid_until == NOON + HOUR + 1
    assert (row.score_ppm, row.signal_count, held(row), row.status_changed) == (None, 1, Status.UNKNOWN, True)


async def test_fewer_signals_than_the_minimum_are_no_score(world: World) -> None:
    await put(world, ScorePolicy(minimum_signals=2))

    await world.store(an_item(value=0.9))
    row = await world.row_that(lambda row: row.signal_count == 1)
    await world.store(an_item(value=0.7))
    enough = await world.row_that(lambda row: row.signal_count == 2)

    assert (row.score_ppm, row.status) == (None, Status.UNKNOWN)
    assert (enough.score_ppm, enough.status) == (800_000, Status.HEALTHY)


async def test_what_is_held_outlives_a_restart_and_goes_on(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await put(world, ScorePolicy(dwell_us=3 * HOUR))
        await world.store(an_item(value=0.9, signal_id="one"))
        await world.row_that(lambda row: row.signal_count == 1)
        await replace_signal(world, an_item(value=0.1, signal_id="one"))
        await world.row_that(lambda row: row.score_ppm == 100_000)
        clock = world.clock
    clock.advance(HOUR)

    async with open_world(tmp_path, clock=clock) as world:
        waiting = await world.evaluate()
        clock.advance(2 * HOUR)
        world.materializer.moved(TENANT, waiting.as_of_seq)
        row = await world.row_that(lambda row: held(row) is Status.CRITICAL)

    assert (waiting.status, held(waiting)) == (Status.CRITICAL, Status.HEALTHY)
    assert row.held is not None
    assert row.held.since == NOON + 3 * HOUR


async def test_what_time_changed_while_nobody_looked_is_made_up_for(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await put(world, ScorePolicy(hysteresis_ppm=20_000))
        await world.store(
            an_item(value=0.76, ts=NOON),
            an_item(value=0.3, ts=NOON - HOUR),
            an_item(value=1.0, ts=NOON - 2 * HOUR),
            an_item(value=1.0, ts=NOON - 2 * HOUR),
        )
        first = await world.row_that(lambda row: row.signal_count == 4)
        clock = world.clock
    # Meanwhile the mean fell to 0.53 when the good ones left, and rose to 0.76 when the bad one did.
    clock.advance(WINDOW - HOUR // 2)

    async with open_world(tmp_path, clock=clock, running=False) as world:
        score = await world.evaluate()

    assert held(first) is Status.HEALTHY
    assert (score.score_ppm, score.status, held(score)) == (760_000, Status.HEALTHY, Status.WARN)


async def test_scores_thrown_away_find_what_is_held_in_the_signals(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await put(world, ScorePolicy(hysteresis_ppm=20_000, window_us=HOUR))
        await world.store(
            an_item(value=0.7, ts=NOON - 2 * HOUR - 1),
            *(an_item(value=0.76, ts=NOON - part * HOUR // 2) for part in range(5)),
        )
        await world.row_that(lambda row: row.as_of_seq == 7)
        clock = world.clock
    await to_thread(throw_scores_away, tmp_path)

    async with open_world(tmp_path, clock=clock, running=False) as world:
        found = await world.evaluate()

    # The last window alone would say HEALTHY; before it was WARN, and the score never got out of the band since.
    assert (found.score_ppm, held(found)) == (760_000, Status.WARN)


async def test_a_recomputation_publishes_a_row_that_has_seen_it(world: World) -> None:
    await world.store(an_item(value=0.9))
    before = await world.row_that(lambda row: row.as_of_seq == 1)

    seq = await put(world, ScorePolicy(), EntryKind.RECOMPUTE)
    row = await world.row_that(lambda row: row.as_of_seq == seq)

    assert (row.score_ppm, row.version) == (before.score_ppm, before.version)


async def test_what_was_computed_is_what_is_kept_under_any_policy(world: World) -> None:
    await put(
        world,
        ScorePolicy(
            window_us=DAY // 2,
            half_life_us=HOUR,
            vetoes=(Veto("build", quantise(0.1), Status.WARN),),
            type_weights=(("test", 500_000),),
            source_cap_ppm=300_000,
        ),
    )
    await world.store(*(an_item(value=n / 20, source=f"s{n % 4}", ts=NOON - n * HOUR) for n in range(20)))
    world.clock.advance(SECOND)

    live = await world.evaluate()
    computed = await world.materializer.as_of(TENANT, world.clock.now())

    facts = [(s.score_ppm, s.status, s.weight_q, s.signal_count, s.valid_until) for s in (live, computed)]
    assert facts[0] == facts[1]
    assert live.signal_count == 12
