"""Held statuses on PostgreSQL beside a release that doesn't know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.model import Held, Status
from coherence_grpc.ports import PortfolioOrder, ScoreQuery, rank_of
from tests.builders import NOON, TENANT, a_score

if TYPE_CHECKING:
    from coherence_grpc.ports import ScoreStore
    from tests.conformance.on_postgres import Schema

pytestmark = pytest.mark.anyio

# What the release before writes, whichever release wrote the row in place.
_OLD: Final = """
WITH given AS (
    SELECT %(tenant_id)s::text AS tenant_id, 0.4 AS score, 'CRITICAL' AS status, now() AS updated_at, 1 AS signal_count,
        1 AS weight_q, 0 AS window_start, %(window_end)s::bigint AS window_end, 0 AS data_time, 0 AS valid_until,
        %(seq)s::bigint AS as_of_seq, '\\x01'::bytea AS head_hash, 1 AS signal_epoch, 1 AS score_epoch,
        %(version)s::bigint AS version, 0 AS computed_at, 'MATERIALIZED' AS source, '' AS policy_etag,
        false AS backfill, true AS status_changed
), placed AS (
    INSERT INTO coherence_scores AS there (tenant_id, score, status, updated_at, signal_count, weight_q, window_start,
        window_end, data_time, valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at,
        source, policy_etag, backfill, status_changed, shard)
    SELECT *, 7 FROM given
    ON CONFLICT (tenant_id) DO UPDATE SET score = excluded.score, status = excluded.status,
        window_end = excluded.window_end, as_of_seq = excluded.as_of_seq, version = excluded.version
)
INSERT INTO coherence_score_history (tenant_id, score, status, updated_at, signal_count, weight_q, window_start,
    window_end, data_time, valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source,
    policy_etag, backfill, status_changed)
SELECT * FROM given
"""


async def changed_last(scores: ScoreStore, query: ScoreQuery | None = None) -> list[tuple[str, int]]:
    order = PortfolioOrder.LAST_CHANGED
    found = await scores.portfolio(query or ScoreQuery(), tenants=None, after=None, limit=10, order=order)
    return [(score.tenant_id, rank_of(score, order)) for score in found]


async def test_a_row_of_the_release_before_holds_its_status_also_where_it_replaced_one_that_says(
    schema: Schema,
) -> None:
    async with schema.scores() as scores:
        await scores.publish([a_score(held=Held(Status.HEALTHY, NOON - 9, ((Status.WARN, NOON),)))])
        await scores.publish([a_score(tenant_id="b", held=Held(Status.HEALTHY, NOON - 99))])

        await schema.rows(_OLD, tenant_id=TENANT, window_end=NOON + 1, seq=2, version=2)

        assert (await scores.get([TENANT]))[TENANT].held == Held(Status.CRITICAL, None)
        assert [row.held for row in await scores.history(TENANT, after_version=1, limit=9)] == [
            Held(Status.CRITICAL, None)
        ]
        assert await changed_last(scores) == [("b", -(NOON - 99)), (TENANT, 0)]
        assert await changed_last(scores, ScoreQuery(held_statuses=[Status.CRITICAL])) == [(TENANT, 0)]


async def test_a_row_that_replaces_one_of_the_release_before_says_what_is_held(schema: Schema) -> None:
    held = Held(Status.CRITICAL, NOON - 9)
    async with schema.scores() as scores:
        await schema.rows(_OLD, tenant_id=TENANT, window_end=NOON, seq=1, version=1)

        won = await scores.publish([a_score(version=2, as_of_seq=2, held=held)])

        assert list(won) == [True]
        assert (await scores.get([TENANT]))[TENANT].held == held
        assert await changed_last(scores) == [(TENANT, -(NOON - 9))]
