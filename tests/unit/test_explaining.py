"""An explanation says of its score what a read of the same instant says, under any policy."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import FilterInvalid, ScorePolicyUnknown, StoreDown, WindowIncomplete
from coherence_grpc.materialize import Exclusion, Explanations, MoveReason, Rule
from coherence_grpc.materialize import explaining as explaining_module
from coherence_grpc.model import DAY, SECOND, WINDOW, Appended, EntryKind, Held, OnConflict, Retention, Status, Tags
from coherence_grpc.policy import ScorePolicy, Veto, encode_policy
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item
from tests.faults import eventually, until
from tests.generated import a_policy, items_from
from tests.unit.reading_scores import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.model import Entry, Item, Score

pytestmark = pytest.mark.anyio
HOUR = 3600 * SECOND


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def rule(world: World, policy: ScorePolicy, tenant_id: str = TENANT) -> Entry:
    """The tenant is scored by the policy from now on."""
    entry = await world.signals.port.append_own(
        tenant_id,
        EntryKind.POLICY,
        encode_policy(policy),
        a_provenance(tenant_id=tenant_id),
        now=world.clock.now(),
    )
    world.materializer.moved(tenant_id, entry.seq)
    return entry


def said(score: Score) -> tuple[object, ...]:
    """What a read and an explanation of the same instant must say alike."""
    return (
        (score.score_ppm, score.status, score.signal_count, score.weight_q, score.held),
        (score.window_start, score.window_end, score.data_time, score.valid_until),
        (score.as_of_seq, score.head_hash, score.policy_etag),
    )


@pytest.mark.parametrize("seed", range(8))
async def test_an_explanation_and_a_read_say_the_same_of_the_score_under_any_policy(world: World, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - spread, not secret
    for number in range(8):
        tenant = f"t{number}"
        policy = a_policy(random)
        items = items_from(random, NOON - policy.window_us, policy.window_us)
        past = NOON - random.randrange(policy.window_us)
        if items:
            await world.publish(*items, tenant_id=tenant)
        entry = await rule(world, policy, tenant)
        # What is muted moves no score; of a policy's window a past read says so a little early.
        changed = replace(policy, type_weights=())
        await rule(world, changed, tenant)

        now = await world.explain(tenant_id=tenant)
        then = await world.explain(tenant_id=tenant, as_of=past)
        named = await world.explain(tenant_id=tenant, as_of=past, policy_etag="default")

        by_default = await world.scores.get(tenant, as_of=past, policy_etag="default", timeout_s=5)
        assert said(now.score) == said((await world.get(tenant))[0])
        assert said(then.score) == said((await world.get(tenant, as_of=past))[0])
        assert said(named.score) == said(by_default[0])
        assert now.version.policy == then.version.policy == changed
        assert (named.score.policy_etag, named.version.seq, entry.seq) == ("", 0, len(items) + 1)
        assert {move.instant for move in now.next_moves[:1]} == {now.score.valid_until} - {None}
        world.clock.advance(random.randrange(policy.window_us // 4))
        assert said((await world.explain(tenant_id=tenant)).score) == said((await world.get(tenant))[0])


async def test_what_is_held_is_what_a_read_says_though_no_row_was_published_since(world: World) -> None:
    await rule(world, ScorePolicy(dwell_us=HOUR))
    await world.publish(an_item(value=0.9))
    await world.get()
    await world.publish(an_item(value=0.1, weight=9))

    explanation = await world.explain()

    assert explanation.score.held == (await world.get())[0].held
    assert explanation.score.held == Held(Status.HEALTHY, NOON, ((Status.WARN, NOON), (Status.CRITICAL, NOON)))
    assert [(action.rule, action.detail) for action in explanation.rules] == [
        (Rule.DWELL, "CRITICAL since 2013-02-08T00:00:00Z, not for 1 h yet: HEALTHY is held")
    ]
    assert [(move.instant, move.reason, move.held_status) for move in explanation.next_moves] == [
        (NOON + HOUR, MoveReason.DWELL, Status.CRITICAL),
        (NOON + WINDOW + 1, MoveReason.EXPIRY, Status.UNKNOWN),
    ]


async def test_without_a_live_score_what_is_held_goes_on_from_the_published_row(world: World) -> None:
    await rule(world, ScorePolicy(hysteresis_ppm=100_000))
    await world.publish(an_item(value=0.8))
    await eventually(lambda: world.store.get((TENANT,)), lambda rows: rows and rows[TENANT].score_ppm == 800_000)
    world.enabled = False
    await world.publish(an_item(value=0.6))

    explanation = await world.explain()

    assert (explanation.score.status, explanation.score.score_ppm) == (Status.WARN, 700_000)
    assert explanation.score.held is not None
    assert explanation.score.held.status is Status.HEALTHY
    (action,) = explanation.rules
    assert (action.rule, action.detail) == (
        Rule.HYSTERESIS,
        "WARN is not 0.1 beyond the threshold: HEALTHY stays",
    )


async def test_a_window_that_can_not_be_loaded_is_explained_from_the_row(world: World) -> None:
    await world.publish(an_item(value=0.8))
    await eventually(lambda: world.store.get((TENANT,)), lambda rows: TENANT in rows)
    world.materializer._windows.drop(TENANT)
    world.signals.failures["window"] = StoreDown("gone")

    explanation = await world.explain()

    assert (explanation.score.score_ppm, explanation.score.version) == (800_000, 1)


async def test_removing_a_signal_for_good_moves_the_score_by_its_delta(world: World) -> None:
    policy = ScorePolicy(
        half_life_us=6 * HOUR,
        type_weights=(("probe", 3_000_000),),
        source_cap_ppm=400_000,
        vetoes=(Veto("incident", 500_000_000, Status.WARN),),
    )
    await rule(world, policy)
    items = [
        an_item(value=number / 20, weight=1 + number % 3, source=f"s{number % 4}", type=type_, ts=NOON - number * HOUR)
        for number, type_ in enumerate(["probe", "build", "incident", "build"] * 5)
    ]
    await world.publish(*items)

    before = await world.explain(top_n=3)
    for part in before.contributions:
        removed = part.signal.item._replace(weight_q=0)
        await replaced(world, removed)
        after, _ = await world.get()
        await replaced(world, part.signal.item)

        assert before.score.score_ppm is not None
        assert after.score_ppm is not None
        assert part.delta_if_removed == (after.score_ppm - before.score.score_ppm) / 10**6


async def replaced(world: World, item: Item) -> None:
    (appended,) = await world.signals.append([a_write(item, on_conflict=OnConflict.REPLACE)], now=world.clock.now())
    assert isinstance(appended, Appended)
    world.materializer.appended(appended)


async def test_provenance_records_are_named_and_grouped(world: World) -> None:
    bad = await world.publish(*(an_item(value=0.1, source=f"s{n}") for n in range(3)))
    good = await world.publish(an_item(value=1.0), an_item(value=0.9))

    explanation = await world.explain()

    assert [(group.name, group.signal_count) for group in explanation.provenances] == [
        (bad.write.provenance.provenance_id, 3),
        (good.write.provenance.provenance_id, 2),
    ]
    assert [group.delta_if_removed for group in explanation.provenances] == [0.51, -0.34]


async def test_the_rules_that_acted_say_what_they_did(world: World) -> None:
    await rule(
        world,
        ScorePolicy(
            window_us=2 * DAY,
            half_life_us=12 * HOUR,
            type_weights=(("build", 2_000_000), ("noise", 0)),
            source_cap_ppm=400_000,
            vetoes=(Veto("deploy", 500_000_000, Status.CRITICAL),),
        ),
    )
    await world.publish(
        an_item(value=1.0, type="build"),
        an_item(value=0.7, type="deploy", source="cd", ts=NOON - 24 * HOUR),
        an_item(value=0.4, type="deploy", source="pager", ts=NOON - 6 * HOUR),
        an_item(value=0.0, type="noise", weight=50),
    )

    explanation = await world.explain()

    assert explanation.score.status is Status.CRITICAL
    assert [(action.rule, action.subject, action.detail) for action in explanation.rules] == [
        (Rule.TYPE_WEIGHT, "build", "weighs 2 times as much: 1 signal (0.039623 becomes 0.775000)"),
        (Rule.TYPE_WEIGHT, "noise", "is muted: 1 signal"),
        (Rule.HALF_LIFE, "", "what is 12 h older counts half (0.775000 becomes 0.831165)"),
        (Rule.SOURCE_CAP, "ci", "has 0.6763 of the weight, counts with 0.4 of it (0.831165 becomes 0.766694)"),
        (Rule.VETO, "deploy", "deploy below 0.5: capped to CRITICAL by 1 signal"),
    ]


async def test_too_few_signals_and_stale_ones_are_told_apart(world: World) -> None:
    await rule(world, ScorePolicy(minimum_signals=3, stale_after_us=90 * 60 * SECOND))
    await world.publish(an_item(value=0.4), an_item(value=0.6))

    fresh = await world.explain()
    world.clock.advance(2 * HOUR)
    stale = await world.explain()

    assert (fresh.score.status, fresh.score.score_ppm) == (Status.UNKNOWN, None)
    assert [action.detail for action in fresh.rules] == ["2 signals of at least 3: no score"]
    assert [action.detail for action in stale.rules] == [
        "2 signals of at least 3: no score",
        "the newest signal is 2 h old, more than 1 h 30 min: no score",
    ]
    assert [part.delta_if_removed for part in fresh.contributions] == [None, None]
    assert sum(part.push for part in fresh.contributions) == pytest.approx(-0.5)
    assert fresh.next_moves[0].reason is MoveReason.STALE


async def test_next_moves_tell_what_comes_and_what_goes(world: World) -> None:
    await world.publish(
        an_item(value=0.2, ts=NOON - WINDOW),
        an_item(value=0.4, ts=NOON - WINDOW),
        an_item(value=0.9, ts=NOON),
        an_item(value=0.5, ts=NOON + 1),
        an_item(value=0.7, ts=NOON + 2 * SECOND),
    )

    explanation = await world.explain()

    assert [(move.instant - NOON, move.reason, move.signal_count) for move in explanation.next_moves] == [
        (1, MoveReason.EXPIRY, 2),
        (1, MoveReason.ACTIVATION, 1),
        (2 * SECOND, MoveReason.ACTIVATION, 1),
        (WINDOW + 1, MoveReason.EXPIRY, 1),
        (WINDOW + 2, MoveReason.EXPIRY, 1),
    ]
    assert [move.score_ppm for move in explanation.next_moves] == [700_000, 700_000, 700_000, 600_000, 700_000]
    world.clock.advance(1)
    assert (await world.get())[0].score_ppm == 700_000


async def test_more_signals_ahead_than_are_looked_at_leave_the_first_moves_exact(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining_module, "AHEAD", 3)
    monkeypatch.setattr("coherence_grpc.materialize.weighing.AHEAD", 3)
    await world.publish(an_item(value=0.2), *(an_item(value=0.9, ts=NOON + later) for later in (1, 2, 2, 3)))
    await world.publish(an_item(value=0.4, type="late", ts=NOON + 1), tenant_id="other")
    world.clock.advance(HOUR)

    explanation = await world.explain(as_of=NOON)

    assert [(move.instant - NOON, move.signal_count) for move in explanation.next_moves] == [(1, 1)]
    assert explanation.score.valid_until == NOON + 1
    assert explanation.excluded[Exclusion.NOT_YET_DUE] == 4


async def test_a_policy_is_named_only_for_a_past_instant_and_must_have_been_there(world: World) -> None:
    await world.publish(an_item())

    with pytest.raises(FilterInvalid) as without_instant:
        await world.explain(policy_etag="default")
    with pytest.raises(ScorePolicyUnknown):
        await world.explain(as_of=NOON, policy_etag="1-0123456789abcdef")

    assert [field.path for field in without_instant.value.fields] == ["policy_etag"]


async def test_a_past_instant_whose_signals_were_erased_is_refused(world: World) -> None:
    await world.publish(an_item(ts=NOON - 40 * DAY), tags=Tags(retention=Retention.SHORT))
    await world.signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=9, dry_run=False)

    with pytest.raises(WindowIncomplete):
        await world.explain(as_of=NOON - 40 * DAY)


async def test_a_signal_that_is_erased_meanwhile_is_read_again(world: World) -> None:
    await world.publish(an_item(ts=NOON - 40 * DAY), tags=Tags(retention=Retention.SHORT))
    world.signals.hold_answers("parts")
    task = asyncio.create_task(world.explain(as_of=NOON - 40 * DAY))
    await until(lambda: world.signals.answers["parts"] == 1)
    await world.signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=9, dry_run=False)

    world.signals.release()

    with pytest.raises(WindowIncomplete):
        await task


async def test_a_policy_that_changes_meanwhile_is_the_one_in_force(world: World) -> None:
    await world.publish(an_item(value=0.4))
    await world.get()
    explanations = Explanations(world.signals.port, world.materializer, world.clock, read_mode=lambda: "graph")
    world.signals.hold("parts")
    task = asyncio.create_task(explanations.get(TENANT, top_n=10))
    await until(lambda: world.signals.calls["parts"] == 1)
    await rule(world, ScorePolicy(warn_ppm=300_000))

    world.signals.release()
    explanation = await task

    assert (explanation.score.status, explanation.score.as_of_seq) == (Status.WARN, 2)
    assert explanation.version.policy.warn_ppm == 300_000
    assert "WARN from 0.3" in explanation.formula
