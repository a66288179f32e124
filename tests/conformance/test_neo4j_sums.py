"""The sums of any window on Neo4j: the store's query, the seed's with partial sums, the columns, and whole integers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j import GraphDatabase

from coherence_grpc.adapters import neo4j
from coherence_grpc.adapters.neo4j import windows
from coherence_grpc.model import DAY, GENESIS, Head
from coherence_grpc.score import WindowSum
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, an_item
from tests.conformance.asking import append_items, chance
from tests.conformance.recomputing import CREATE, STATEMENTS, VALUES, WEIGHTS, put_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from neo4j import Session, Transaction

    from tests.backends.fixtures import Neo4jAuth
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = list(NEO4J)

SIGNALS_OF_A_WINDOW = st.lists(st.tuples(st.integers(0, 100), VALUES, WEIGHTS), max_size=200)


@pytest.fixture(scope="module")
def session(neo4j_auth: Neo4jAuth) -> Iterator[Session]:
    asyncio.run(neo4j.migrate(*neo4j_auth))
    with GraphDatabase.driver(neo4j_auth.uri, auth=neo4j_auth[1:]) as driver, driver.session() as opened:
        yield opened


def one(transaction: Transaction, query: str, **parameters: int) -> list[Any]:
    record = transaction.run(query, {"tenant_id": "sums", "head_seq": 10_000, **parameters}).single()
    assert record is not None
    return record.values()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
        seeds = one(transaction, STATEMENTS["cypher"], start=start, end=end)
        columns = one(transaction, windows.COLUMNS, start=start, end=end, after_seq=0, rows=1000)
        transaction.rollback()

    totals = windows.totals_of(ours, None, end - start, Head(1, 0, GENESIS))
    assert totals.sums == put_together(seeds) == expected
    assert totals.sums.score_ppm() == expected.score_ppm()
    assert sorted(zip(*columns[:3], strict=True)) == sorted(row for row in rows if start <= row[0] <= end and row[2])


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

    (row,) = await migrated_graph.look(STATEMENTS["cypher"], tenant_id=TENANT, start=NOON - DAY, end=NOON)
    assert totals.sums == put_together(row)
    assert totals.sums.score_ppm() == put_together(row).score_ppm()
    assert totals.sums.count > 100
