"""Every statement on PostgreSQL goes by the index that it declares, however the server plans it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from coherence_grpc.adapters.postgres import leases, queries
from coherence_grpc.adapters.postgres.score_rows import columns
from coherence_grpc.model import DAY, SECOND, Status
from coherence_grpc.ports import PortfolioOrder
from tests.builders import NOON, a_score
from tests.conformance.on_postgres import a_migrated_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from tests.conformance.on_postgres import Schema

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TENANTS: Final = 20_000
# One tenant in a hundred has a long history.
VERSIONS: Final = 200
PARAMETER: Final = re.compile(r"%\((\w+)\)s")
SCANNED: Final = re.compile(r"Seq Scan on (\w+)")
INDEX: Final = re.compile(r"Index (?:Only )?Scan (?:Backward )?(?:using|on) (\w+)")
SORTED: Final = re.compile(r"^\s*(?:->)?\s*Sort ", re.MULTILINE)
# A row, 64 rows, a few holders: nothing to look up.
SMALL: Final = {"coherence_meta", "shard_leases", "shard_holders"}

# As many tenants as scores: some due, one in ten UNKNOWN, all four words.
LOAD_SCORES: Final = """
INSERT INTO coherence_scores (tenant_id, score, status, signal_count, weight_q, window_start, window_end, data_time,
    valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source, policy_etag, backfill,
    status_changed, shard, held_status, held_since, held_version)
SELECT 'tenant-' || n, CASE WHEN mod(n, 10) > 0 THEN mod(n, 1000000)::numeric / 1000000 END,
    (ARRAY['HEALTHY', 'WARN', 'CRITICAL', 'UNKNOWN'])[1 + mod(n, 4)], 1, 1, 0, %(noon)s + n, 0,
    %(noon)s + n * 1000000::bigint, 1, '\\x01', 1, 1, 1, 0, 'MATERIALIZED', '', false, false, mod(n, 64),
    (ARRAY['HEALTHY', 'WARN', 'CRITICAL', 'UNKNOWN'])[1 + mod(n / 2, 4)], %(noon)s - n, 1
FROM generate_series(1, %(tenants)s) n
"""
LOAD_HISTORY: Final = """
INSERT INTO coherence_score_history (tenant_id, score, status, signal_count, weight_q, window_start, window_end,
    data_time, valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, version, computed_at, source, policy_etag,
    backfill, status_changed)
SELECT tenant_id, score, status, signal_count, weight_q, window_start, window_end + v * 1000000::bigint, data_time,
    valid_until, as_of_seq, head_hash, signal_epoch, score_epoch, v, computed_at, source, policy_etag, backfill,
    mod(v, 20) = 0
FROM coherence_scores, generate_series(1, CASE WHEN right(tenant_id, 2) = '00' THEN %(versions)s ELSE 1 END) v
"""


@dataclass
class Hot:
    """A statement, what it is asked with, and the indexes it goes by, perhaps one `or` another.

    `sorts` says that a few rows are sorted, `walks` names tables that are read from end to end.
    """

    statement: str
    parameters: Mapping[str, object]
    indexes: Collection[str]
    sorts: bool = False
    walks: Collection[str] = ()


FEW: Final = [f"tenant-{n}" for n in range(100, 200)]
RANKS: Final = {
    "rank": 5_000,
    "tenant_id": "tenant-5000",
    "lowest": 0,
    "highest": 1_000_001,
    "statuses": [*Status],
    "held": [*Status],
    "tenants": FEW,
    "prefix": "tenant-19",
    "limit": 100,
}
INDEX_OF: Final = {
    PortfolioOrder.WORST_FIRST: "coherence_scores_by_rank",
    PortfolioOrder.BEST_FIRST: "coherence_scores_by_best_rank",
    PortfolioOrder.TENANT_ID: "coherence_scores_pkey",
    PortfolioOrder.LAST_CHANGED: "coherence_scores_by_change",
}
# What narrows a portfolio further may have the shorter way.
WAYS: Final = {
    "bounded": "coherence_scores_by_rank",
    "of": "coherence_scores_pkey",
    "beginning": "coherence_scores_pkey",
}
PORTFOLIOS: Final = {
    " ".join(["portfolio", order, *named]): Hot(
        queries.portfolio(order, bounded="bounded" in named, of="of" in named, beginning="beginning" in named),
        RANKS | ({"rank": -500_000} if order is not PortfolioOrder.WORST_FIRST else {}),
        {" or ".join([index, *(WAYS[name] for name in named)])},
        sorts=bool(named),
    )
    for order, index in INDEX_OF.items()
    for named in ((), ("bounded",), ("of",), ("beginning",), ("bounded", "of", "beginning"))
}
HOT: Final = {
    "PUBLISH": Hot(
        queries.PUBLISH,
        columns([a_score(tenant_id=tenant_id, version=2, window_end=NOON + DAY) for tenant_id in FEW]),
        {"coherence_scores_pkey"},
        sorts=True,
    ),
    "GET": Hot(queries.GET, {"tenant_ids": FEW}, {"coherence_scores_pkey"}),
    **PORTFOLIOS,
    "DUE": Hot(queries.DUE, {"before": NOON + 300 * SECOND, "limit": 256}, {"coherence_scores_due"}),
    "NEXT_DUE": Hot(queries.NEXT_DUE, {}, {"coherence_scores_due"}),
    "DUE_OF": Hot(
        queries.DUE_OF,
        {"shards": [-1, *range(0, 64, 2)], "before": NOON + 300 * SECOND, "limit": 256},
        {"coherence_scores_due_by_shard"},
        sorts=True,
    ),
    "NEXT_DUE_OF": Hot(
        queries.NEXT_DUE_OF,
        {"shards": [-1, *range(0, 64, 2)], "before": 2**63 - 1, "limit": 1},
        {"coherence_scores_due_by_shard"},
    ),
    "HISTORY": Hot(
        queries.HISTORY,
        {"tenant_id": "tenant-500", "after_version": 10, "limit": 100},
        {"coherence_score_history_pkey"},
    ),
    "VERSION_AT": Hot(
        queries.VERSION_AT,
        {"tenant_id": "tenant-500", "instant": NOON + 100 * SECOND},
        {"coherence_score_history_by_time"},
    ),
    "SHOWN_AT": Hot(
        queries.SHOWN_AT,
        {"tenants": FEW, "instants": [NOON + 100 * SECOND] * len(FEW)},
        {"coherence_score_history_by_time"},
        sorts=True,
    ),
    "CHANGES": Hot(
        queries.CHANGES,
        {"tenant_id": "tenant-500", "start": NOON, "end": NOON + DAY, "limit": 1000},
        {"coherence_score_history_changes"},
    ),
    "THIN": Hot(
        queries.THIN,
        {"end": NOON + 100 * SECOND, "minute": 60 * SECOND, "limit": 1000},
        {"coherence_score_history_by_time", "coherence_score_history_pkey"},
        # Every tenant is asked for what it has to spare.
        walks={"coherence_scores"},
    ),
}


@pytest.fixture(scope="module")
async def filled(postgres_uri: str) -> AsyncIterator[Schema]:
    async with a_migrated_schema(postgres_uri) as schema:
        await schema.rows(LOAD_SCORES, noon=NOON, tenants=TENANTS)
        await schema.rows(LOAD_HISTORY, versions=VERSIONS)
        await schema.rows("ANALYZE coherence_scores, coherence_score_history")
        yield schema


async def plan(connection: psycopg.AsyncConnection[Any], hot: Hot, *, generic: bool) -> str:
    """How the server would run it: for these parameters, or for any as it does with what it prepared."""
    names = list(dict.fromkeys(PARAMETER.findall(hot.statement)))
    numbered = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", hot.statement)
    mode = "force_generic_plan" if generic else "force_custom_plan"
    async with psycopg.AsyncClientCursor(connection) as cursor:
        await cursor.execute(f"SET plan_cache_mode = {mode}".encode())
        await cursor.execute(f"PREPARE asked AS {numbered}".encode())
        arguments = f"({', '.join(['%s'] * len(names))})" if names else ""
        await cursor.execute(f"EXPLAIN EXECUTE asked{arguments}".encode(), [hot.parameters[name] for name in names])
        lines = [line for (line,) in await cursor.fetchall()]
        await cursor.execute("DEALLOCATE asked")
    return "\n".join(lines)


def misses(shown: str, hot: Hot) -> list[str]:
    """What the plan does otherwise than declared."""
    wrong = [f"reads all of {table}" for table in SCANNED.findall(shown) if table not in {*SMALL, *hot.walks}]
    used = set(INDEX.findall(shown))
    wrong += [f"leaves {index} alone" for index in sorted(hot.indexes) if not used.intersection(index.split(" or "))]
    if SORTED.search(shown) and not hot.sorts:
        wrong.append("sorts")
    return wrong


def test_every_statement_of_the_score_store_is_looked_at() -> None:
    statements = {name for name in vars(queries) if name.isupper() and not name.startswith("_")}

    # The row of the epoch is one; what is filled and read is no statement.
    words = {"EPOCH", "THINNED", "FILLED", "FILLING", "READ", "READ_IN_PLACE", "SENT"}
    assert set(HOT) - set(PORTFOLIOS) == statements - words


@pytest.mark.parametrize("generic", [False, True], ids=["these parameters", "any parameters"])
@pytest.mark.parametrize("name", list(HOT))
async def test_a_hot_statement_goes_by_its_index(filled: Schema, name: str, generic: bool) -> None:
    async with filled.connection() as connection:
        shown = await plan(connection, HOT[name], generic=generic)

    assert misses(shown, HOT[name]) == [], shown


@pytest.mark.parametrize("statement", [leases._RENEW, leases._LOOK], ids=["renew", "look"])
async def test_a_renewal_of_leases_reads_nothing_but_the_rows_of_leases(filled: Schema, statement: str) -> None:
    hot = Hot(statement, {"holder": "a", "shards": 64, "ttl_s": 4.0}, set(), sorts=True)

    async with filled.connection() as connection:
        shown = await plan(connection, hot, generic=False)

    assert misses(shown, hot) == [], shown


@pytest.mark.parametrize(
    ("name", "index", "noticed"),
    [
        ("portfolio WORST_FIRST", "coherence_scores_by_rank", "reads all of coherence_scores"),
        ("portfolio BEST_FIRST", "coherence_scores_by_best_rank", "leaves coherence_scores_by_best_rank alone"),
        ("CHANGES", "coherence_score_history_changes", "leaves coherence_score_history_changes alone"),
        ("DUE", "coherence_scores_due", "reads all of coherence_scores"),
        ("DUE_OF", "coherence_scores_due_by_shard", "leaves coherence_scores_due_by_shard alone"),
        ("VERSION_AT", "coherence_score_history_by_time", "leaves coherence_score_history_by_time alone"),
    ],
)
async def test_a_missing_index_is_noticed(filled: Schema, name: str, index: str, noticed: str) -> None:
    async with filled.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(SQL("DROP INDEX {}").format(Identifier(index)))

        shown = await plan(connection, HOT[name], generic=True)

    assert noticed in misses(shown, HOT[name])
