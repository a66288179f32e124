"""Policies, history and what-if through the typed client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.client import Event, EventKind, Invalid, NotFound, Outdated, Signal, Status, Veto
from tests.builders import NOON

if TYPE_CHECKING:
    from coherence_grpc.client import Client
    from tests.grpc.running import World

pytestmark = pytest.mark.anyio
AT_NOON: Final = datetime.fromtimestamp(NOON / 1e6, UTC)
HOUR: Final = timedelta(hours=1)


async def stored(client: Client, tenant: str, value: float, *, ago: timedelta = HOUR, source: str = "ci") -> None:
    await client.publish(tenant, source=source, type="build", value=value, ts=AT_NOON - ago)


async def test_without_a_policy_the_default_rules_hold(shared: World, tenant: str) -> None:
    policy = await shared.client.get_policy(tenant)

    assert (policy.etag, policy.seq, policy.update_time) == ("default", 0, None)
    assert (policy.window, policy.half_life, policy.dwell) == (timedelta(days=1), None, timedelta())
    assert (policy.healthy_threshold, policy.warn_threshold, policy.hysteresis) == (0.75, 0.5, 0)
    assert (policy.minimum_signals, policy.stale_after, policy.source_share_cap) == (1, None, None)
    assert (policy.vetoes, dict(policy.type_weights)) == ((), {})


async def test_only_the_named_rules_change_and_none_sets_one_back(shared: World, tenant: str) -> None:
    veto = Veto("build", 0.5, Status.CRITICAL)

    first = await shared.client.update_policy(
        tenant, window=2 * HOUR, half_life=HOUR, vetoes=[veto], type_weights={"build": 2}
    )
    second = await shared.client.update_policy(tenant, hysteresis=0.02, half_life=None, etag=first.etag)

    assert (first.window, first.half_life, first.vetoes) == (2 * HOUR, HOUR, (veto,))
    assert (second.window, second.half_life, second.hysteresis) == (2 * HOUR, None, 0.02)
    assert dict(second.type_weights) == {"build": 2}
    assert await shared.client.get_policy(tenant) == second
    assert await shared.client.get_policy(tenant, etag=first.etag) == first


async def test_a_policy_moves_the_score_and_is_an_event(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.9)
    await stored(shared.client, tenant, 0.1, ago=3 * HOUR)

    policy = await shared.client.update_policy(tenant, window=2 * HOUR)
    score = await shared.client.get_score(tenant)
    event = await anext(shared.client.events(tenant, start="earliest", kinds=[EventKind.POLICY_UPDATED]))

    assert (score.score, score.policy_etag) == (0.9, policy.etag)
    assert isinstance(event, Event)
    assert event.policy == policy


async def test_changes_that_cannot_be_made_say_why(shared: World, tenant: str) -> None:
    with pytest.raises(Invalid) as invalid:
        await shared.client.update_policy(tenant, window=timedelta(seconds=1))
    current = await shared.client.update_policy(tenant, hysteresis=0.01)
    with pytest.raises(Outdated) as outdated:
        await shared.client.update_policy(tenant, hysteresis=0.02, etag="default")
    with pytest.raises(NotFound):
        await shared.client.get_policy(tenant, etag="9-abc")

    assert invalid.value.fields[0].path == "policy.window"
    assert outdated.value.refusal.metadata["etag"] == current.etag


async def test_a_change_can_be_checked_without_being_made(shared: World, tenant: str) -> None:
    checked = await shared.client.update_policy(tenant, hysteresis=0.1, validate_only=True)

    assert checked.hysteresis == 0.1
    assert (await shared.client.get_policy(tenant)).etag == "default"


async def test_a_recompute_can_be_waited_for(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.9)

    recomputed = await shared.client.recompute(tenant)
    score = await shared.client.get_score(tenant, at_least=recomputed.revision)

    assert (recomputed.seq, score.as_of_seq, score.score) == (2, 2, 0.9)


async def test_a_history_is_read_over_all_its_pages(
    shared: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coherence_grpc.client.client.PAGE", 3)
    await stored(shared.client, tenant, 0.9, ago=6 * HOUR)
    await stored(shared.client, tenant, 0.1, ago=3 * HOUR)

    history = await shared.client.history(tenant, start=AT_NOON - 8 * HOUR, end=AT_NOON, step=2 * HOUR, recomputed=True)
    part = await shared.client.history(
        tenant, start=AT_NOON - 8 * HOUR, end=AT_NOON, step=2 * HOUR, recomputed=True, max_points=4
    )

    assert [point.score for point in history.points] == [None, 0.9, 0.9, 0.5, 0.5]
    assert [point.status for point in history.points[:3]] == [Status.UNKNOWN, Status.HEALTHY, Status.HEALTHY]
    assert [(span.held_status, span.start) for span in history.spans] == [
        (Status.UNKNOWN, AT_NOON - 8 * HOUR),
        (Status.HEALTHY, AT_NOON - 6 * HOUR),
        (Status.WARN, AT_NOON - 3 * HOUR),
    ]
    assert (history.status_change_count, history.complete) == (2, True)
    assert (len(part.points), part.complete) == (4, False)


async def test_what_would_be_is_told_beside_what_is(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.9)

    simulated = await shared.client.simulate(
        tenant, [Signal("ci", "build", 0.1)], policy={"healthy_threshold": 0.95}, lookback=timedelta(days=1)
    )

    assert (simulated.actual.score, simulated.simulated.score) == (0.9, 0.5)
    assert simulated.score_delta == pytest.approx(-0.4)
    assert (simulated.actual.status, simulated.simulated.status) == (Status.HEALTHY, Status.WARN)
    assert [each.simulated for each in simulated.differences] == [Status.WARN]
    assert (await shared.client.get_score(tenant)).signal_count == 1


async def test_an_explanation_names_the_rules_that_acted_and_what_comes_next(shared: World, tenant: str) -> None:
    await stored(shared.client, tenant, 0.9)
    await stored(shared.client, tenant, 0.1)
    await shared.client.update_policy(tenant, vetoes=[Veto("build", 0.5, Status.CRITICAL)])

    explained = await shared.client.explain(tenant)

    assert explained.policy is not None
    assert [action.subject for action in explained.rules] == ["build"]
    assert explained.score.status is Status.CRITICAL
    assert explained.next_moves[0].time == AT_NOON + 23 * HOUR + timedelta(microseconds=1)
    assert explained.next_moves[0].status is Status.UNKNOWN
