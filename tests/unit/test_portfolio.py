"""The portfolio: the rows of those a caller may see, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.materialize import Trend
from coherence_grpc.model import SECOND
from coherence_grpc.ports import PortfolioOrder, ScoreQuery
from tests.builders import NOON, TENANT, a_caller, a_score, an_item
from tests.faults import until
from tests.unit.reading_scores import EVERYTHING, World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


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

    rows = await world.portfolio.page(EVERYTHING, a_caller(tenants=["mine"]), None, 100)

    assert [row.score.tenant_id for row in rows] == ["mine"]


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


@pytest.mark.parametrize(
    ("earlier", "now", "trend"),
    [
        (500_000, 510_000, Trend.UP),
        (500_000, 509_999, Trend.FLAT),
        (500_000, 490_001, Trend.FLAT),
        (500_000, 490_000, Trend.DOWN),
        (None, 490_000, None),
        (500_000, None, None),
    ],
)
async def test_a_trend_is_a_hundredth_from_the_score_shown_an_hour_before(
    world: World, earlier: int | None, now: int | None, trend: Trend | None
) -> None:
    shown = [(NOON - HOUR - 1, 0), (NOON - HOUR, earlier), (NOON - HOUR + 1, 1_000_000), (NOON, now)]
    for version, (instant, ppm) in enumerate(shown, start=1):
        await world.store.publish([a_score(version=version, window_end=instant, score_ppm=ppm)])

    (listed,) = await world.portfolio.page(EVERYTHING, a_caller(), None, 100)

    assert (listed.score.score_ppm, listed.trend) == (now, trend)


async def test_a_score_that_was_not_shown_an_hour_before_has_no_trend(world: World) -> None:
    await world.publish(an_item())
    await world.rows(1)

    (listed,) = await world.portfolio.page(EVERYTHING, a_caller(), None, 100)

    assert listed.trend is None


async def test_a_portfolio_comes_in_the_order_asked_for_beyond_the_position(world: World) -> None:
    for tenant_id, value in (("good", 0.9), ("bad", 0.1), ("fair", 0.6)):
        await world.publish(an_item(value=value), tenant_id=tenant_id)
    await world.rows(3)

    best = await world.portfolio.page(EVERYTHING, a_caller(), None, 2, PortfolioOrder.BEST_FIRST)
    by_name = await world.portfolio.page(ScoreQuery(), a_caller(), (0, "bad"), 9, PortfolioOrder.TENANT_ID)

    assert [listed.score.tenant_id for listed in best] == ["good", "fair"]
    assert [listed.score.tenant_id for listed in by_name] == ["fair", "good"]
