"""The sums of a window on Neo4j: the store's query, the seed's with partial sums, the columns, and whole integers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j import GraphDatabase

from coherence_grpc.adapters import neo4j
from coherence_grpc.adapters.neo4j import windows
from coherence_grpc.model import DAY, GENESIS, QUANTUM, Head
from coherence_grpc.score import WindowSum
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, an_item
from tests.conformance.asking import append_items, chance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from neo4j import Session, Transaction

    from tests.backends.fixtures import Neo4jAuth
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = list(NEO4J)

# The seed's computation, corrected: in integers, which SUM and reduce would overflow, so as four partial sums; over a
# window that is closed at both ends, of signals that carry weight; and with no score, not 0, where nothing does.
SEED: Final = """
MATCH (t:Tenant {tenant_id: $tenant_id})-[:EMITS]->(s:Signal)
WHERE s.ts >= datetime.fromEpoch($start / 1000000, $start % 1000000 * 1000)
  AND s.ts <= datetime.fromEpoch($end / 1000000, $end % 1000000 * 1000) AND s.weight_q > 0
WITH collect({v: s.value_q, w: s.weight_q}) AS items
RETURN size(items),
       reduce(n = 0, i IN items | n + i.v / 32768 * (i.w / 1048576)),
       reduce(n = 0, i IN items | n + i.v / 32768 * (i.w % 1048576)),
       reduce(n = 0, i IN items | n + i.v % 32768 * (i.w / 1048576)),
       reduce(n = 0, i IN items | n + i.v % 32768 * (i.w % 1048576)),
       reduce(n = 0, i IN items | n + i.w)
"""
CREATE: Final = """
MERGE (t:Tenant {tenant_id: $tenant_id})
WITH t
UNWIND $rows AS row
CREATE (t)-[:EMITS]->(:Signal {
    tenant_id: $tenant_id, source: '', signal_id: toString(row[3]), seq: row[3],
    ts: datetime.fromEpoch(row[0] / 1000000, row[0] % 1000000 * 1000), value_q: row[1], weight_q: row[2]
})
"""
VALUES = st.integers(0, QUANTUM) | st.sampled_from([0, 1, QUANTUM - 1, QUANTUM, 32_767, 32_768])
WEIGHTS = st.integers(0, 1000 * QUANTUM) | st.sampled_from([0, 1, 1000 * QUANTUM, 1000 * QUANTUM - 1, 2**20 - 1, 2**20])
SIGNALS_OF_A_WINDOW = st.lists(st.tuples(st.integers(0, 100), VALUES, WEIGHTS), max_size=200)


def seed_sums(row: list[Any]) -> WindowSum:
    """What the seed's query found."""
    count, hh, hl, lh, ll, weight = row
    return WindowSum((hh << 35) + (hl << 15) + (lh << 20) + ll, weight, count)


@pytest.fixture(scope="module")
def session(neo4j_auth: Neo4jAuth) -> Iterator[Session]:
    asyncio.run(neo4j.migrate(*neo4j_auth))
    with GraphDatabase.driver(neo4j_auth.uri, auth=neo4j_auth[1:]) as driver, driver.session() as opened:
        yield opened


def one(transaction: Transaction, query: str, **parameters: int) -> list[Any]:
    record = transaction.run(query, {"tenant_id": "sums", "head_seq": 10_000, **parameters}).single()
    assert record is not None
    return record.values()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=SIGNALS_OF_A_WINDOW, start=st.integers(0, 50), end=st.integers(50, 100))
def test_ac_data_03_the_partial_sums_of_cypher_are_the_sums(
    session: Session, rows: list[tuple[int, int, int]], start: int, end: int
) -> None:
    expected = WindowSum()
    for ts, value_q, weight_q in rows:
        if start <= ts <= end:
            expected = expected.plus(value_q, weight_q)

    with session.begin_transaction() as transaction:
        numbered = [[*row, seq] for seq, row in enumerate(rows, 1)]
        transaction.run(CREATE, tenant_id="sums", rows=numbered).consume()
        ours = one(transaction, windows.SUMS, start=start, end=end)
        seeds = one(transaction, SEED, start=start, end=end)
        columns = one(transaction, windows.COLUMNS, start=start, after_seq=0, rows=1000)
        transaction.rollback()

    totals = windows.totals_of(ours, None, end - start, Head(1, 0, GENESIS))
    assert totals.sums == seed_sums(seeds) == expected
    assert totals.sums.score_ppm() == expected.score_ppm()
    assert sorted(zip(*columns[:3], strict=True)) == sorted(row for row in rows if row[0] >= start and row[2])


@pytest.mark.anyio
async def test_ac_data_03_the_seeds_query_agrees_with_the_store_to_the_last_digit(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    dice = chance(29)
    items = [
        an_item(
            ts=NOON - dice.randrange(2 * DAY),
            value=dice.choice([dice.random(), 1.0]),
            weight=dice.choice([0.0, 1.0, 1000.0, 999.999999999]),
        )
        for _ in range(1000)
    ]
    async with migrated_graph.signals(clock) as signals:
        await append_items(signals, *items)

        totals = await signals.totals(TENANT, start=NOON - DAY, end=NOON)

    (row,) = await migrated_graph.look(SEED, tenant_id=TENANT, start=NOON - DAY, end=NOON)
    assert totals.sums == seed_sums(row)
    assert totals.sums.score_ppm() == seed_sums(row).score_ppm()
    assert totals.sums.count > 100
