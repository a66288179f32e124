"""What would be: the scores of a recompute with what is supposed, and not a byte written."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import FilterInvalid, ScorePolicyInvalid, SignalInvalid, StoreTimeout, WindowIncomplete
from coherence_grpc.ingest import Records
from coherence_grpc.materialize import Difference, Simulation, Sweeps, WhatIf, sweeping
from coherence_grpc.model import DAY, SECOND, EntryKind, Retention, Status, Tags
from coherence_grpc.policy import DEFAULT, ScorePolicy, Veto, encode_policy
from tests import generated
from tests.builders import NOON, TENANT, a_draft, a_provenance, an_item, key_of
from tests.faults import Grants
from tests.oracle import held_over, segments, truth
from tests.unit.materializing import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.materialize import Simulated
    from coherence_grpc.model import Draft, Item, Key, StoredSignal
    from tests.unit.materializing import World

pytestmark = pytest.mark.anyio
HOUR = 3600 * SECOND


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, running=False) as opened:
        yield opened


async def simulate(
    world: World,
    *signals: Item | Draft,
    policy: ScorePolicy | None = None,
    as_of: int | None = None,
    lookback: int = 7 * DAY,
    timeout_s: float = 30.0,
) -> Simulated:
    simulation = Simulation(world.signals.port, world.materializer.rows, world.clock, Sweeps(world.signals.port))
    what_if = WhatIf(TENANT, signals, policy, as_of, lookback)
    return await simulation.simulate(what_if, timeout_s=timeout_s)


async def adopt(world: World, policy: ScorePolicy) -> None:
    await world.signals.append_own(
        TENANT, EntryKind.POLICY, encode_policy(policy), a_provenance(), now=world.clock.now()
    )


async def test_with_nothing_supposed_both_scores_are_the_one_that_is_read(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON - HOUR), an_item(value=0.9, ts=NOON))

    simulated = await simulate(world)

    assert simulated.actual == simulated.simulated
    read = await world.materializer.as_of(TENANT, NOON)
    assert replace(simulated.actual, held=read.held) == read
    assert (simulated.actual_changes, simulated.differences, simulated.compared_from) == (2, [], NOON - 7 * DAY)
    assert simulated.head == await world.signals.head(TENANT)


async def test_a_signal_that_is_supposed_counts_as_if_it_were_stored(world: World) -> None:
    await world.store(an_item(value=1.0, ts=NOON - HOUR))

    simulated = await simulate(world, a_draft(value=0.0, ts=NOON - HOUR), a_draft(value=0.2, ts=None))

    assert (simulated.actual.score_ppm, simulated.simulated.score_ppm) == (1_000_000, 400_000)
    assert (simulated.simulated.signal_count, simulated.simulated.data_time) == (3, NOON)
    assert simulated.differences == [Difference(NOON - HOUR, NOON, Status.HEALTHY, Status.WARN)]


async def test_a_signal_whose_key_is_stored_counts_in_the_place_of_the_stored_one(world: World) -> None:
    stored = an_item(value=1.0, ts=NOON - HOUR)
    await world.store(stored, an_item(value=0.8, ts=NOON - HOUR))

    simulated = await simulate(world, stored._replace(value_q=0))
    muted = await simulate(world, stored._replace(weight_q=0))

    assert (simulated.simulated.score_ppm, simulated.simulated.signal_count) == (400_000, 2)
    assert (muted.simulated.score_ppm, muted.simulated.signal_count) == (800_000, 1)
    assert (await simulate(world, stored)).simulated == simulated.actual


async def test_a_signal_that_was_stored_muted_counts_when_it_is_supposed_otherwise(world: World) -> None:
    stored = an_item(value=0.5, weight=0, ts=NOON)
    await world.store(stored)

    simulated = await simulate(world, stored._replace(weight_q=1))

    assert (simulated.actual.score_ppm, simulated.simulated.score_ppm) == (None, 500_000)


async def test_a_signal_dated_ahead_is_due_later(world: World) -> None:
    await world.store(an_item(value=1.0, ts=NOON))

    simulated = await simulate(world, a_draft(value=0.0, ts=NOON + 60 * SECOND))

    assert simulated.simulated.score_ppm == 1_000_000
    assert simulated.simulated.valid_until == NOON + 60 * SECOND


async def test_a_policy_that_is_supposed_takes_the_place_of_the_one_in_force(world: World) -> None:
    await world.store(
        an_item(type="build", value=1.0, ts=NOON - 30 * HOUR), an_item(type="incident", value=0.4, ts=NOON - HOUR)
    )
    veto = ScorePolicy(window_us=2 * DAY, vetoes=(Veto("incident", 500_000_000, Status.CRITICAL),))

    simulated = await simulate(world, policy=veto)

    assert (simulated.actual.score_ppm, simulated.actual.window_start) == (400_000, NOON - DAY)
    assert (simulated.simulated.score_ppm, simulated.simulated.status) == (700_000, Status.CRITICAL)
    assert (simulated.simulated.window_start, simulated.simulated.policy_etag) == (NOON - 2 * DAY, "")
    assert simulated.differences == [Difference(NOON - 6 * HOUR + 1, NOON - HOUR, Status.UNKNOWN, Status.HEALTHY)]


async def test_the_policy_in_force_is_what_is_compared_with(world: World) -> None:
    slow = ScorePolicy(dwell_us=3 * HOUR)
    await world.store(an_item(value=1.0, ts=NOON - 9 * HOUR), an_item(value=0.0, ts=NOON - 5 * HOUR, weight=9))
    await adopt(world, slow)

    as_it_is = await simulate(world)
    without = await simulate(world, policy=DEFAULT)

    assert as_it_is.simulated == as_it_is.actual
    assert as_it_is.actual.policy_etag == (await world.signals.policy(TENANT)).etag
    assert as_it_is.actual.held is not None
    assert (as_it_is.actual.held.status, as_it_is.actual.held.since) == (Status.CRITICAL, NOON - 2 * HOUR)
    assert without.differences == [Difference(NOON - 5 * HOUR, NOON - 2 * HOUR, Status.HEALTHY, Status.CRITICAL)]


async def test_without_a_lookback_the_scores_alone_are_compared(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON - HOUR))
    await adopt(world, ScorePolicy(hysteresis_ppm=20_000))

    simulated = await simulate(world, a_draft(value=1.0, weight=9), lookback=0)

    assert (simulated.actual.score_ppm, simulated.simulated.score_ppm) == (200_000, 920_000)
    assert (simulated.differences, simulated.compared_from) == ([], NOON)
    assert simulated.actual.held is None


async def test_no_byte_is_written(world: World) -> None:
    stored = an_item(value=1.0, ts=NOON - HOUR)
    await world.store(stored)
    before = await world.signals.head(TENANT), await world.signals.tail(TENANT, after=0, limit=10)
    writes = sum(world.signals.calls[name] for name in ("append", "append_own", "prune", "note_published"))

    await simulate(world, stored._replace(value_q=0), a_draft(), policy=ScorePolicy(window_us=HOUR))

    assert (await world.signals.head(TENANT), await world.signals.tail(TENANT, after=0, limit=10)) == before
    assert sum(world.signals.calls[name] for name in ("append", "append_own", "prune", "note_published")) == writes
    assert world.scores.calls["publish"] == 0
    assert await world.row() is None


async def test_what_would_be_is_what_is_once_it_was_done(world: World) -> None:
    random = Random(3)  # noqa: S311 - test data
    for number in range(60):
        policy = generated.a_policy(random, plain=random.random() < 0.3)
        begin = world.clock.now() - 2 * policy.window_us
        await world.store(*_unique(generated.items_from(random, begin, policy.window_us), f"{number}-"))
        extra = _unique(
            generated.items_from(random, world.clock.now() - policy.window_us, policy.window_us // 2), f"x{number}-"
        )
        extra = [item for item in extra if item.ts <= world.clock.now()]

        simulated = await simulate(world, *extra, policy=policy, lookback=policy.window_us)
        await world.store(*extra)
        await adopt(world, policy)
        read = await world.materializer.as_of(TENANT, world.clock.now())

        would_be = simulated.simulated
        assert (would_be.score_ppm, would_be.status, would_be.signal_count, would_be.weight_q) == (
            read.score_ppm,
            read.status,
            read.signal_count,
            read.weight_q,
        )
        assert (await simulate(world, lookback=policy.window_us)).actual_changes == simulated.simulated_changes
        world.clock.advance(random.choice((1, HOUR, DAY)))


def _unique(items: Sequence[Item], prefix: str) -> list[Item]:
    return [item._replace(signal_id=prefix + item.signal_id) for item in items]


@pytest.mark.parametrize("seed", range(40))
async def test_the_differences_are_those_of_two_histories(world: World, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - test data
    one, other = (generated.a_policy(random, plain=random.random() < 0.3) for _ in range(2))
    window_us = max(one.window_us, other.window_us)
    start, end = NOON - window_us, NOON
    items = [item for item in generated.items_from(random, NOON - 2 * window_us, window_us) if item.ts <= NOON]
    more = [item._replace(signal_id="more" + item.signal_id) for item in items[::3]]
    await world.store(*(items or [an_item()]))
    items = items or [an_item()]
    await adopt(world, one)

    simulated = await simulate(world, *more, policy=other, lookback=window_us)

    was = held_over(segments(items, one, start, end), end)
    would_be = held_over(segments([*items, *more], other, start, end), end)
    assert simulated.actual_changes == len(was) - 1
    assert simulated.simulated_changes == len(would_be) - 1
    for instant in sorted({*was, *would_be, *(i - 1 for i in (*was, *would_be) if i > start)} - {end}):
        at = [course[max(since for since in course if since <= instant)] for course in (was, would_be)]
        found = [(d.actual, d.simulated) for d in simulated.differences if d.start <= instant < d.end]
        assert found == ([(at[0], at[1])] if at[0] is not at[1] else [])
    assert simulated.simulated.score_ppm == truth([*items, *more], other, NOON).score_ppm


async def test_only_so_many_differences_are_told(world: World) -> None:
    minutes = 60 * SECOND
    await world.store(*(an_item(value=n % 2, ts=NOON - n * 2 * minutes) for n in range(1, 1100)))

    simulated = await simulate(world, policy=ScorePolicy(window_us=minutes))
    one_more = await simulate(world, a_draft(value=1.0, ts=NOON - DAY))

    assert one_more.simulated.signal_count == one_more.actual.signal_count + 1
    assert (len(simulated.differences), simulated.truncated) == (1000, True)
    assert simulated.simulated_changes > 1000
    assert simulated.differences[0].start == NOON - 1099 * 2 * minutes + minutes + 1


@pytest.mark.parametrize("ahead", [300 * SECOND + 1, DAY])
async def test_a_signal_dated_too_far_ahead_is_refused_by_its_field(world: World, ahead: int) -> None:
    with pytest.raises(SignalInvalid, match=r"signals\[1\]\.ts is more than 300 s ahead"):
        await simulate(world, a_draft(), a_draft(ts=NOON + ahead))


async def test_two_signals_of_one_key_must_be_the_same(world: World) -> None:
    item = an_item(value=0.5)

    simulated = await simulate(world, item, item)
    with pytest.raises(SignalInvalid, match=r"signals\[1\] has the key of another"):
        await simulate(world, item, item._replace(value_q=1))

    assert simulated.simulated.signal_count == 1


async def test_an_instant_ahead_of_the_clock_is_refused_by_its_field(world: World) -> None:
    with pytest.raises(FilterInvalid, match="as_of_time is ahead"):
        await simulate(world, as_of=NOON + 1)


async def test_rules_that_contradict_one_another_are_refused_by_their_field(world: World) -> None:
    with pytest.raises(ScorePolicyInvalid, match=r"policy\.warn_threshold"):
        await simulate(world, policy=ScorePolicy(warn_ppm=800_000))


async def test_a_lookback_over_too_many_signals_is_refused_by_its_field(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(*(an_item(ts=NOON - n * HOUR) for n in range(100)))
    monkeypatch.setattr(sweeping, "MOST_PLAIN", 60)

    with pytest.raises(FilterInvalid, match="lookback reaches over more than 60 signals"):
        await simulate(world)

    assert (await simulate(world, lookback=HOUR)).actual.signal_count == 25


async def test_what_was_erased_shortens_the_comparison(world: World) -> None:
    await world.store(an_item(value=0.1), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    now = world.clock.now()
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass
    await world.store(an_item(value=1.0, ts=now))

    simulated = await simulate(world, lookback=60 * DAY)

    assert simulated.compared_from == NOON + 1 + DAY
    assert simulated.actual_changes == 1
    with pytest.raises(WindowIncomplete):
        await simulate(world, as_of=NOON + HOUR)


async def test_signals_that_change_all_the_time_are_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = an_item(value=1.0, ts=NOON - HOUR)
    await world.store(stored)
    gone: StoredSignal | None = await world.signals.get(key_of(stored))
    assert gone is not None

    async def another(_: Key) -> StoredSignal:
        changed: StoredSignal = replace(gone, item=stored._replace(value_q=3))
        return changed

    monkeypatch.setattr(world.signals, "get", another, raising=False)

    with pytest.raises(StoreTimeout, match="changed while they were looked at"):
        await simulate(world, stored)


async def test_what_takes_longer_than_the_call_has_time_for_is_given_up(world: World) -> None:
    await world.store(an_item())
    world.signals.hold("window")

    with pytest.raises(StoreTimeout, match="in the time the call had"):
        await simulate(world, timeout_s=0.05)
