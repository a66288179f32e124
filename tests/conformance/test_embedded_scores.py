"""The file of scores: what becomes of an older one, and the index each of its readings goes by."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import apsw
import pytest

from coherence_grpc.adapters.embedded import open_score_store, score_table
from coherence_grpc.adapters.embedded.opening import open_writer
from coherence_grpc.adapters.embedded.schema import SCORES
from coherence_grpc.model import Held, Status
from coherence_grpc.ports import PortfolioOrder, ScoreQuery
from tests.builders import NOON, TENANT, a_score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

INDEX_OF: Final = {
    PortfolioOrder.WORST_FIRST: "scores_by_rank",
    PortfolioOrder.BEST_FIRST: "scores_by_best_rank",
    PortfolioOrder.TENANT_ID: "PRIMARY KEY",
    PortfolioOrder.LAST_CHANGED: "scores_by_change",
}
OLD_ROW: Final = f"""
INSERT INTO {{table}} (tenant_id, score_ppm, status, signal_count, weight_q, window_start, window_end, as_of_seq,
    head_hash, signal_epoch, score_epoch, version, computed_at, source, policy_etag, backfill, status_changed)
VALUES ('{TENANT}', 400000, 'CRITICAL', 1, '1', 0, {NOON}, 1, x'01', 1, 1, 1, 0, 'MATERIALIZED', '', 0, 1)
"""  # noqa: S608 - our own words


def plan(connection: apsw.Connection, statement: str, bindings: int) -> Sequence[str]:
    """How SQLite would run it."""
    found = connection.execute("EXPLAIN QUERY PLAN " + statement, (apsw.carray(("",)),) * bindings)
    return [line for *_, line in found]


async def test_a_file_of_the_release_before_keeps_its_rows_which_hold_their_status(tmp_path: Path) -> None:
    older = SCORES._replace(migrations=SCORES.migrations[:1])
    with closing(open_writer(tmp_path / "scores.db", older)) as connection:
        for table in ("scores", "score_history"):
            connection.execute(OLD_ROW.format(table=table))

    async with open_score_store(tmp_path) as scores:
        held = ScoreQuery(held_statuses=[Status.CRITICAL])
        listed = await scores.portfolio(held, tenants=None, after=None, limit=2, order=PortfolioOrder.LAST_CHANGED)
        kept = await scores.history(TENANT, after_version=0, limit=2)
        changes = await scores.changes(TENANT, start=0, end=NOON, limit=2)
        won = await scores.publish([a_score(version=2, window_end=NOON + 1)])

        assert [row.held for row in (*listed, *kept, *changes)] == [Held(Status.CRITICAL, None)] * 3
        assert list(won) == [True]


@pytest.mark.parametrize("order", list(PortfolioOrder))
async def test_a_portfolio_goes_by_the_index_of_its_order(tmp_path: Path, order: PortfolioOrder) -> None:
    with closing(open_writer(tmp_path / "scores.db", SCORES)) as connection:
        shown = plan(connection, score_table._PORTFOLIO[order], 12)

    assert INDEX_OF[order] in shown[0]
    assert not [line for line in shown if "TEMP B-TREE" in line]


@pytest.mark.parametrize(
    ("statement", "bindings", "index"),
    [(score_table._SHOWN_AT, 2, "score_history_by_time"), (score_table._CHANGES, 4, "score_history_changes")],
    ids=["shown_at", "changes"],
)
async def test_what_was_shown_is_found_by_an_index(tmp_path: Path, statement: str, bindings: int, index: str) -> None:
    with closing(open_writer(tmp_path / "scores.db", SCORES)) as connection:
        shown = plan(connection, statement, bindings)

    assert index in shown[0]
    assert not [line for line in shown if "TEMP B-TREE" in line]
