"""ScoreStore: a portfolio in every order, page by page, and what narrows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import Held, Status
from coherence_grpc.ports import PortfolioOrder, ScoreQuery, rank_of
from tests.builders import NOON, a_score

if TYPE_CHECKING:
    from coherence_grpc.ports import ScoreStore

pytestmark = pytest.mark.anyio

# Of each tenant the score, the held status and since when.
TENANTS = {
    "ab-2": (500_000, Status.WARN, NOON - 2),
    "ab-1": (500_000, Status.HEALTHY, NOON - 7),
    "b": (None, Status.UNKNOWN, NOON - 7),
    "abc": (0, Status.CRITICAL, None),
    "a_": (1_000_000, Status.HEALTHY, NOON - 1),
    "z": (None, Status.UNKNOWN, None),
}
EXPECTED = {
    PortfolioOrder.WORST_FIRST: ["abc", "ab-1", "ab-2", "a_", "b", "z"],
    PortfolioOrder.BEST_FIRST: ["a_", "ab-1", "ab-2", "abc", "b", "z"],
    PortfolioOrder.TENANT_ID: ["a_", "ab-1", "ab-2", "abc", "b", "z"],
    PortfolioOrder.LAST_CHANGED: ["a_", "ab-2", "ab-1", "b", "abc", "z"],
}


@pytest.fixture
async def filled(scores: ScoreStore) -> ScoreStore:
    await scores.publish(
        [
            a_score(tenant_id=tenant_id, score_ppm=ppm, held=Held(status, since))
            for tenant_id, (ppm, status, since) in TENANTS.items()
        ]
    )
    return scores


async def names(
    scores: ScoreStore, order: PortfolioOrder, query: ScoreQuery | None = None, tenants: list[str] | None = None
) -> list[str]:
    found = await scores.portfolio(query or ScoreQuery(), tenants=tenants, after=None, limit=10, order=order)
    return [score.tenant_id for score in found]


@pytest.mark.parametrize("order", list(PortfolioOrder))
async def test_a_portfolio_ascends_by_rank_and_tenant(filled: ScoreStore, order: PortfolioOrder) -> None:
    assert await names(filled, order) == EXPECTED[order]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("order", list(PortfolioOrder))
async def test_a_portfolio_in_any_order_goes_on_beyond_the_position(
    filled: ScoreStore, order: PortfolioOrder, size: int
) -> None:
    seen: list[str] = []
    after: tuple[int, str] | None = None

    while page := await filled.portfolio(ScoreQuery(), tenants=None, after=after, limit=size, order=order):
        seen += [score.tenant_id for score in page]
        after = rank_of(page[-1], order), page[-1].tenant_id

    assert seen == EXPECTED[order]


@pytest.mark.parametrize("order", list(PortfolioOrder))
@pytest.mark.parametrize(
    ("query", "tenants", "expected"),
    [
        (ScoreQuery(held_statuses=[Status.HEALTHY]), None, {"ab-1", "a_"}),
        (ScoreQuery(held_statuses=[Status.WARN, Status.UNKNOWN]), None, {"ab-2", "b", "z"}),
        (ScoreQuery(statuses=[Status.WARN], held_statuses=[Status.HEALTHY]), None, {"ab-1"}),
        (ScoreQuery(prefix="ab"), None, {"ab-1", "ab-2", "abc"}),
        (ScoreQuery(prefix="a_"), None, {"a_"}),
        (ScoreQuery(prefix="ab-1"), None, {"ab-1"}),
        (ScoreQuery(prefix="z9"), None, set()),
        (ScoreQuery(prefix="a"), ["ab-2", "b", "a_"], {"ab-2", "a_"}),
        (ScoreQuery(prefix="a", max_ppm=500_000), None, {"ab-1", "ab-2", "abc"}),
        (ScoreQuery(prefix="a"), [], set()),
    ],
)
async def test_a_portfolio_in_any_order_is_narrowed_by_what_is_named(
    filled: ScoreStore, order: PortfolioOrder, query: ScoreQuery, tenants: list[str] | None, expected: set[str]
) -> None:
    wanted = [name for name in EXPECTED[order] if name in expected]

    assert await names(filled, order, query, tenants) == wanted


async def test_a_page_of_a_prefix_goes_on_beyond_the_position(filled: ScoreStore) -> None:
    order = PortfolioOrder.TENANT_ID

    found = await filled.portfolio(ScoreQuery(prefix="ab"), tenants=None, after=(0, "ab-1"), limit=10, order=order)

    assert [score.tenant_id for score in found] == ["ab-2", "abc"]
