"""Reading scores: one and many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from coherence_grpc.errors import (
    CoherenceError,
    CursorExpired,
    CursorForeign,
    FilterInvalid,
    PolicyDenied,
    ScopeMissing,
    StoreTimeout,
    WindowIncomplete,
)
from coherence_grpc.ingest import Records
from coherence_grpc.model import (
    DAY,
    GENESIS,
    SECOND,
    WINDOW,
    Head,
    Retention,
    ScoreSource,
    Status,
    Tags,
)
from coherence_grpc.tokens import Revision
from tests.builders import NOON, TENANT, a_caller, an_item
from tests.faults import Grants
from tests.unit.reading_scores import World, open_world, revision_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_read_sees_the_write_acknowledged_before_it_and_says_which_head_it_saw(world: World) -> None:
    appended = await world.publish(an_item(value=0.4))

    score, head = await world.get()

    assert (score.score_ppm, score.status) == (400_000, Status.CRITICAL)
    assert head == appended.head


async def test_ac_api_01_a_tenant_never_heard_of_is_unknown(world: World) -> None:
    score, head = await world.get("nobody")

    assert (score.status, score.score_ppm, score.signal_count) == (Status.UNKNOWN, None, 0)
    assert head == Head(score.signal_epoch, 0, GENESIS)


async def test_as_of_recomputes_from_all_signals_stored_by_now_late_ones_included(world: World) -> None:
    await world.publish(an_item(value=0.2, ts=NOON - 10), an_item(value=1.0, ts=NOON))
    world.clock.advance(WINDOW)
    before, _ = await world.get(as_of=NOON - 10)
    await world.publish(an_item(value=0.4, ts=NOON - 20))

    after, head = await world.get(as_of=NOON - 10)

    assert (before.score_ppm, before.signal_count) == (200_000, 1)
    assert (after.score_ppm, after.signal_count, after.source) == (300_000, 2, ScoreSource.COMPUTED)
    assert (after.window_start, after.window_end) == (NOON - 10 - WINDOW, NOON - 10)
    assert (after.data_time, after.valid_until, head.seq) == (NOON - 10, NOON, 3)


async def test_as_of_before_the_first_signal_is_unknown(world: World) -> None:
    await world.publish(an_item())

    score, _ = await world.get(as_of=0)

    assert score.status is Status.UNKNOWN


async def test_as_of_ahead_of_the_clock_is_refused_and_now_is_not(world: World) -> None:
    with pytest.raises(FilterInvalid) as refused:
        await world.get(as_of=NOON + 1)

    assert [field.path for field in refused.value.fields] == ["as_of_time"]
    assert (await world.get(as_of=NOON))[0].window_end == NOON


async def test_as_of_over_erased_signals_is_refused(world: World) -> None:
    await world.publish(an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass

    with pytest.raises(WindowIncomplete):
        await world.get(as_of=NOON + SECOND)

    assert (await world.get(as_of=NOON + WINDOW + 1))[0].status is Status.UNKNOWN


async def test_a_read_at_least_as_fresh_as_a_revision_has_seen_it(world: World) -> None:
    first = await world.publish(an_item(value=0.2))
    second = await world.publish(an_item(value=0.4))

    for appended in (first, second):
        score, head = await world.get(at_least=revision_of(appended.head))
        assert (score.score_ppm, head.seq) == (300_000, 2)


async def test_a_revision_of_the_servers_own_entries_is_reached(world: World) -> None:
    await world.publish(an_item(), tags=Tags(retention=Retention.SHORT))
    await world.get()
    world.clock.advance(32 * DAY)
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass
    head = await world.signals.head(TENANT)

    _, seen = await world.get(at_least=revision_of(head))

    assert seen == head


async def test_a_revision_of_an_empty_log_is_reached(world: World) -> None:
    _, head = await world.get()

    assert (await world.get(at_least=revision_of(head)))[1] == head


@pytest.mark.parametrize(
    "change", [{"seq": 3}, {"signal_epoch": 9}, {"hash_prefix": b"12345678"}, {"seq": 1}, {"seq": 2**62}]
)
async def test_a_revision_that_the_log_does_not_have_fails_at_once(world: World, change: dict[str, Any]) -> None:
    await world.publish(an_item(), an_item())
    _, head = await world.get()

    with pytest.raises(CursorExpired, match="read without it") as refused:
        await world.get(at_least=revision_of(head)._replace(**change))

    assert refused.value.metadata == {"earliest_seq": "1", "latest_seq": "2"}


async def test_a_revision_holds_for_an_as_of_read_too(world: World) -> None:
    appended = await world.publish(an_item())

    score, _ = await world.get(as_of=NOON, at_least=revision_of(appended.head))

    assert score.as_of_seq == 1
    with pytest.raises(CursorExpired):
        await world.get(as_of=NOON, at_least=Revision(1, 5, b"12345678"))


async def test_a_read_ends_with_its_deadline(world: World) -> None:
    await world.publish(an_item())
    world.signals.hold("totals")

    with pytest.raises(StoreTimeout) as refused:
        await world.scores.get(TENANT, as_of=NOON, timeout_s=0.01)

    world.signals.release()
    assert refused.value.retry_after_s
    assert (await world.get(as_of=NOON))[0].signal_count == 1


async def test_with_the_materialiser_off_a_read_computes_and_still_sees_the_last_write(world: World) -> None:
    await world.publish(an_item(value=0.2, ts=NOON - WINDOW))
    await world.rows(1)
    world.enabled = False
    appended = await world.publish(an_item(value=0.4))
    world.clock.advance(1)

    score, _ = await world.get(at_least=revision_of(appended.head))

    assert (score.source, score.score_ppm, score.stale) == (ScoreSource.COMPUTED, 400_000, False)


# Many scores


async def test_a_batch_answers_in_order_each_with_its_own_verdict(world: World) -> None:
    await world.publish(an_item(value=0.4), tenant_id="one")
    caller = a_caller(tenants=["one", "nobody"])

    answers = await world.scores.batch(
        ["one", "not-mine", "Bad Id", "nobody", "one", "x" * 65, "one\n"], caller, timeout_s=5
    )

    kinds = [type(answer) if isinstance(answer, CoherenceError) else answer[0].score_ppm for answer in answers]
    assert kinds == [400_000, PolicyDenied, FilterInvalid, None, 400_000, FilterInvalid, FilterInvalid]
    paths = [field.path for answer in answers if isinstance(answer, FilterInvalid) for field in answer.fields]
    assert paths == ["tenant_ids[2]", "tenant_ids[5]", "tenant_ids[6]"]


async def test_a_batch_without_the_scope_is_refused_tenant_by_tenant(world: World) -> None:
    (answer,) = await world.scores.batch(["one"], a_caller(scopes=[]), timeout_s=5)

    assert isinstance(answer, ScopeMissing)


async def test_a_batch_as_of_an_instant_ahead_is_refused_item_by_item(world: World) -> None:
    (answer,) = await world.scores.batch(["one"], a_caller(), as_of=NOON + 1, timeout_s=5)

    assert isinstance(answer, FilterInvalid)


async def test_a_revision_in_a_batch_is_checked_for_the_tenant_it_belongs_to(world: World) -> None:
    appended = await world.publish(an_item(), tenant_id="one")
    token = world.signer.revision("one", appended.head)
    beyond = world.signer.revision("one", Head(appended.head.epoch, 7, GENESIS))

    good = await world.scores.batch(["two", "one"], a_caller(), at_least=token, timeout_s=5)
    bad = await world.scores.batch(["two", "one"], a_caller(), at_least=beyond, timeout_s=5)

    assert [isinstance(answer, CoherenceError) for answer in good] == [False, False]
    assert not isinstance(bad[0], CoherenceError)
    assert isinstance(bad[1], CursorExpired)
    with pytest.raises(CursorForeign, match="none of the tenants"):
        await world.scores.batch(["two"], a_caller(), at_least=token, timeout_s=5)


async def test_a_batch_shares_one_deadline(world: World) -> None:
    await world.publish(an_item())
    world.signals.hold("totals")

    answers = await world.scores.batch([TENANT, "two"], a_caller(), as_of=NOON, timeout_s=0.02)

    world.signals.release()
    assert [type(answer) for answer in answers] == [StoreTimeout, StoreTimeout]


async def test_a_hundred_tenants_are_read_while_others_write(world: World) -> None:
    tenants = [f"tenant-{n}" for n in range(100)]

    async def write(tenant_id: str) -> None:
        await world.publish(an_item(value=0.5), tenant_id=tenant_id)

    async with asyncio.TaskGroup() as writers:
        for tenant_id in tenants:
            writers.create_task(write(tenant_id))
    answers = await world.scores.batch(tenants, a_caller(), timeout_s=5)

    assert [answer[0].score_ppm for answer in answers if not isinstance(answer, CoherenceError)] == [500_000] * 100
