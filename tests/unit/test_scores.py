"""Reading scores: one, many, the portfolio, and why."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
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
from coherence_grpc.materialize import Exclusion, Materializer, Scores
from coherence_grpc.materialize.explanation import explain
from coherence_grpc.model import (
    DAY,
    GENESIS,
    QUANTUM,
    SECOND,
    WINDOW,
    Appended,
    Head,
    Retention,
    ScoreSource,
    Status,
    Tags,
)
from coherence_grpc.ports import ScoreQuery, Weighed
from coherence_grpc.tokens import Key, Revision, Signer
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_score, a_signal, a_write, an_item
from tests.faults import Grants, InterposedScores, InterposedSignals, eventually, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.materialize import Explanation
    from coherence_grpc.model import Item, Score

pytestmark = pytest.mark.anyio
EVERYTHING = ScoreQuery()


class World:
    """The scores on real stores, and short ways to ask for them."""

    def __init__(self, signals: InterposedSignals, scores: InterposedScores, clock: ManualClock) -> None:
        self.signals = signals
        self.store = scores
        self.clock = clock
        self.enabled = True
        self.signer = Signer([Key(1, b"k" * 32)])
        self.materializer = Materializer(
            signals.port, scores.port, clock, enabled=lambda: self.enabled, on_published=[]
        )
        self.scores = Scores(signals.port, scores.port, self.materializer, clock, Grants(), self.signer)

    async def publish(self, *items: Item, tenant_id: str = TENANT, tags: Tags | None = None) -> Appended:
        (appended,) = await self.signals.append([a_write(*items, tenant_id=tenant_id, tags=tags)], now=self.clock.now())
        assert isinstance(appended, Appended)
        self.materializer.appended(appended)
        return appended

    async def get(
        self, tenant_id: str = TENANT, *, as_of: int | None = None, at_least: Revision | None = None
    ) -> tuple[Score, Head]:
        return await self.scores.get(tenant_id, as_of=as_of, at_least=at_least, timeout_s=5)

    async def rows(self, count: int) -> Sequence[Score]:
        """The portfolio, as soon as it has that many rows."""
        return await eventually(
            lambda: self.scores.portfolio(EVERYTHING, a_caller(), None, 100), lambda rows: len(rows) == count
        )

    async def explain(self, *, top_n: int = 10, as_of: int | None = None) -> Explanation:
        return await self.scores.explain(TENANT, top_n=top_n, as_of=as_of)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    async with open_signal_store(directory, clock) as signals, open_score_store(directory) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        async with world.materializer:
            yield world


def revision_of(head: Head) -> Revision:
    return Revision(head.epoch, head.seq, head.head_hash[:8])


def exact(items: Sequence[Item]) -> Fraction:
    """The mean before rounding."""
    weight = sum(item.weight_q for item in items)
    return Fraction(sum(item.value_q * item.weight_q for item in items), weight * QUANTUM)


# One score


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


# The portfolio


async def test_a_portfolio_shows_the_worst_first_and_unknown_last(world: World) -> None:
    await world.publish(an_item(value=0.9), tenant_id="good")
    await world.publish(an_item(value=0.1), tenant_id="bad")
    await world.publish(an_item(weight=0), tenant_id="muted")

    rows = await world.rows(3)

    assert [row.tenant_id for row in rows] == ["bad", "good", "muted"]
    assert not any(row.stale for row in rows)


async def test_a_portfolio_shows_only_what_the_caller_may_see(world: World) -> None:
    await world.publish(an_item(), tenant_id="mine")
    await world.publish(an_item(), tenant_id="theirs")
    await world.rows(2)

    rows = await world.scores.portfolio(EVERYTHING, a_caller(tenants=["mine"]), None, 100)

    assert [row.tenant_id for row in rows] == ["mine"]


async def test_reading_creates_no_rows(world: World) -> None:
    await world.get("nobody")
    await world.scores.batch(["nobody-else"], a_caller(), timeout_s=5)
    await world.publish(an_item())

    assert [row.tenant_id for row in await world.rows(1)] == [TENANT]


async def test_with_the_materialiser_off_a_row_past_its_time_is_stale_after_a_quarter_second(world: World) -> None:
    await world.publish(an_item())
    (row,) = await world.rows(1)
    await until(lambda: world.materializer.keeping_up)
    world.enabled = False
    assert row.valid_until is not None

    world.clock.advance(row.valid_until - NOON + 249_999)
    (in_grace,) = await world.rows(1)
    world.clock.advance(1)
    (overdue,) = await world.rows(1)

    assert (in_grace.stale, overdue.stale) == (False, True)
    assert overdue.score_ppm == row.score_ppm


async def test_the_grace_is_machine_time_under_a_fast_clock(world: World) -> None:
    await world.publish(an_item())
    (row,) = await world.rows(1)
    world.enabled = False
    world.clock.speed = 600.0
    assert row.valid_until is not None

    world.clock.advance(row.valid_until - NOON + 149 * SECOND)
    (in_grace,) = await world.rows(1)
    world.clock.advance(SECOND)
    (overdue,) = await world.rows(1)

    assert (in_grace.stale, overdue.stale) == (False, True)


async def test_with_the_materialiser_off_a_row_behind_its_log_is_stale(world: World) -> None:
    await world.publish(an_item(), tenant_id="moved")
    await world.publish(an_item(), tenant_id="same")
    await world.rows(2)
    world.enabled = False

    await world.publish(an_item(), tenant_id="moved")
    rows = await world.rows(2)

    assert {row.tenant_id: row.stale for row in rows} == {"moved": True, "same": False}


# Why


async def test_an_explanation_puts_the_strongest_push_first_and_all_pushes_add_up(world: World) -> None:
    items = [
        an_item(value=0.0, weight=1, source="a", type="x"),
        an_item(value=0.5, weight=5, source="a", type="y"),
        an_item(value=1.0, weight=9, source="b", type="y"),
        an_item(value=0.3, weight=0, source="b", type="y"),
    ]
    await world.publish(*items)

    explanation = await world.explain()

    score, _ = await world.get()
    assert [part.signal.item for part in explanation.contributions] == [items[1], items[0], items[2]]
    assert explanation.score.score_ppm == score.score_ppm == round(exact(items) * 10**6)
    assert explanation.score.valid_until == score.valid_until
    assert (explanation.score.status, explanation.score.as_of_seq) == (score.status, 4)
    below_one = float(exact(items) - 1)
    for parts in (explanation.contributions, explanation.sources, explanation.types):
        assert sum(part.push for part in parts) == pytest.approx(below_one, abs=1e-9)
        assert sum(part.weight_share for part in parts) == pytest.approx(1, abs=1e-9)


async def test_an_explanation_groups_by_source_and_type_the_strongest_push_first(world: World) -> None:
    await world.publish(
        an_item(value=1.0, weight=2, source="a", type="x"),
        an_item(value=0.5, weight=1, source="a", type="y"),
        an_item(value=0.2, weight=1, source="b", type="y"),
    )

    explanation = await world.explain()

    assert [(group.name, group.signal_count) for group in explanation.sources] == [("b", 1), ("a", 2)]
    assert [(group.name, group.signal_count) for group in explanation.types] == [("y", 2), ("x", 1)]
    assert explanation.sources[1].mean == pytest.approx(2.5 / 3)
    assert explanation.sources[1].weight_share == 0.75
    assert explanation.types[0].push == pytest.approx(-0.5 / 4 - 0.8 / 4)


async def test_an_explanation_says_by_how_much_each_signal_moves_the_score(world: World) -> None:
    items = [an_item(value=0.1, weight=3), an_item(value=0.9, weight=1), an_item(value=0.7, weight=2)]
    await world.publish(*items)

    explanation = await world.explain()

    for part in explanation.contributions:
        rest = [item for item in items if item is not part.signal.item and item != part.signal.item]
        assert part.delta_if_removed == float(exact(rest) - exact(items))


async def test_without_its_only_signal_nothing_would_remain(world: World) -> None:
    await world.publish(an_item())

    (part,) = (await world.explain()).contributions

    assert part.delta_if_removed is None


async def test_an_explanation_is_cut_to_the_strongest(world: World) -> None:
    await world.publish(*(an_item(value=n / 10, source=f"s{n}", type=f"t{n}") for n in range(9)))

    explanation = await world.explain(top_n=2)

    assert [part.signal.item.source for part in explanation.contributions] == ["s0", "s1"]
    assert [group.name for group in explanation.sources] == ["s0", "s1"]
    assert [group.name for group in explanation.types] == ["t0", "t1"]
    assert explanation.score.signal_count == 9


async def test_an_explanation_counts_what_does_not_count_and_says_why(world: World) -> None:
    await world.publish(
        an_item(weight=0),
        an_item(ts=NOON + SECOND),
        an_item(ts=NOON - WINDOW - 1),
        an_item(ts=NOON - WINDOW),
        an_item(),
    )

    explanation = await world.explain()

    assert explanation.excluded == {Exclusion.MUTED: 1, Exclusion.NOT_YET_DUE: 1, Exclusion.AGED_OUT: 1}
    assert explanation.score.signal_count == 2
    assert explanation.score.valid_until == (await world.get())[0].valid_until == NOON + 1


async def test_an_explanation_as_of_a_past_instant_explains_that_score(world: World) -> None:
    await world.publish(an_item(value=0.2, ts=NOON - SECOND), an_item(value=0.4))
    world.clock.advance(WINDOW + 1)

    explanation = await world.explain(as_of=NOON - 1)

    assert explanation.score == (await world.get(as_of=NOON - 1))[0]
    assert [part.signal.item.value_q for part in explanation.contributions] == [200_000_000]


async def test_an_explanation_of_nothing_is_unknown_and_empty(world: World) -> None:
    explanation = await world.explain()

    assert explanation.score.status is Status.UNKNOWN
    assert explanation.score.valid_until is None
    assert [*explanation.contributions, *explanation.sources, *explanation.types] == []
    assert "half-even" in explanation.formula


async def test_an_explanation_ahead_of_the_clock_is_refused(world: World) -> None:
    with pytest.raises(FilterInvalid):
        await world.explain(as_of=NOON + 1)


async def test_an_explanation_does_not_go_behind_the_published_row(world: World) -> None:
    row = a_score(window_end=NOON + 60 * SECOND, score_epoch=world.store.epoch)
    await world.store.publish([row])

    explanation = await world.explain()

    assert explanation.score.window_end == NOON + 60 * SECOND
    assert explanation.score.version == 1


async def test_a_large_window_is_explained_beside_the_loop(world: World) -> None:
    await world.publish(*(an_item(value=n / 2000, ts=NOON - n) for n in range(1000)))
    await world.publish(*(an_item(value=n / 2000, ts=NOON - n) for n in range(1000, 2000)))

    explanation = await world.explain(top_n=1)

    assert explanation.score.score_ppm == 499_750
    assert explanation.contributions[0].signal.item.value_q == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, QUANTUM),
            st.sampled_from([1, QUANTUM, 1000 * QUANTUM]) | st.integers(1, 1000 * QUANTUM),
            st.sampled_from("abc"),
        ),
        min_size=1,
        max_size=100,
    )
)
def test_all_pushes_add_up_to_the_score_minus_1_at_any_values_and_weights(signals: list[tuple[int, int, str]]) -> None:
    items = [
        an_item(source=source)._replace(value_q=value_q, weight_q=weight_q) for value_q, weight_q, source in signals
    ]

    parts = explain(Weighed([a_signal(item=item) for item in items], 0, 0, Head(1, 1, GENESIS)), 100)

    below_one = float(exact(items) - 1)
    assert sum(part.push for part in parts.contributions) == pytest.approx(below_one, abs=1e-9)
    assert sum(group.push for group in parts.sources) == pytest.approx(below_one, abs=1e-9)
    assert [part.push for part in parts.contributions] == sorted(part.push for part in parts.contributions)


async def test_a_hundred_tenants_are_read_while_others_write(world: World) -> None:
    tenants = [f"tenant-{n}" for n in range(100)]

    async def write(tenant_id: str) -> None:
        await world.publish(an_item(value=0.5), tenant_id=tenant_id)

    async with asyncio.TaskGroup() as writers:
        for tenant_id in tenants:
            writers.create_task(write(tenant_id))
    answers = await world.scores.batch(tenants, a_caller(), timeout_s=5)

    assert [answer[0].score_ppm for answer in answers if not isinstance(answer, CoherenceError)] == [500_000] * 100
