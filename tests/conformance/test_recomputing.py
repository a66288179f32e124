"""Every way to compute a score gives the same digits: by fractions, step by step, and in each store's own words."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j import GraphDatabase

from coherence_grpc.adapters import neo4j
from coherence_grpc.adapters.embedded import windows as embedded_windows
from coherence_grpc.adapters.embedded.opening import open_writer
from coherence_grpc.adapters.embedded.schema import SIGNALS
from coherence_grpc.adapters.neo4j import windows as neo4j_windows
from coherence_grpc.model import DAY, GENESIS, QUANTUM, Head
from tests.backends.fixtures import NEO4J, POSTGRES
from tests.conformance.asking import chance
from tests.conformance.recomputing import (
    CREATE,
    END,
    LIMIT,
    ROWS,
    START,
    STATEMENTS,
    Row,
    by_fractions,
    put_together,
    step_by_step,
    the_row_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import apsw
    from neo4j import Session, Transaction

    from coherence_grpc.score import WindowSum
    from tests.backends.fixtures import Neo4jAuth

pytestmark = [POSTGRES, *NEO4J]

TENANT: Final = "sums"
MANY: Final = 12_000
TENANTS_HEAD: Final = "INSERT INTO heads (tenant, tenant_id, seq, head_hash, recorded_at) VALUES (1, ?, ?, x'', 0)"


class Stores(NamedTuple):
    """One of each, on which nothing of what a test writes stays."""

    sqlite: apsw.Connection
    neo4j: Session
    postgres: psycopg.Connection[Any]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, neo4j_auth: Neo4jAuth, postgres_uri: str) -> Iterator[Stores]:
    asyncio.run(neo4j.migrate(*neo4j_auth))
    path: Path = tmp_path_factory.mktemp("sums") / "signals.db"
    with ExitStack() as stack:
        driver = stack.enter_context(GraphDatabase.driver(neo4j_auth.uri, auth=neo4j_auth[1:]))
        raw = psycopg.connect(postgres_uri, autocommit=True, cursor_factory=psycopg.RawCursor)
        yield Stores(
            stack.enter_context(closing(open_writer(path, SIGNALS))),
            stack.enter_context(driver.session()),
            stack.enter_context(raw),
        )


def in_sqlite(connection: apsw.Connection, rows: Sequence[Row]) -> list[WindowSum]:
    """By the store's query, and by that of the page."""
    connection.execute("BEGIN")
    connection.execute(TENANTS_HEAD, (TENANT, len(rows)))
    connection.executemany(
        "INSERT INTO signals VALUES (1, ?, '', ?, 1, ?, ?, '', 0)",
        [(row.ts, str(number), row.value_q, row.weight_q) for number, row in enumerate(rows)],
    )
    ours = embedded_windows.totals(connection, 1, 1, START, END)
    (page,) = connection.execute(STATEMENTS["sqlite"], {"tenant_id": TENANT, "start": START, "end": END})
    connection.execute("ROLLBACK")
    return [ours.sums, put_together(page)]


def in_neo4j(session: Session, rows: Sequence[Row]) -> list[WindowSum]:
    """By the store's query, and by that of the page: the seed's, corrected."""
    with session.begin_transaction() as transaction:
        numbered = [[*row, seq] for seq, row in enumerate(rows, 1)]
        transaction.run(CREATE, tenant_id=TENANT, rows=numbered).consume()
        ours = one(transaction, neo4j_windows.SUMS, head_seq=len(rows))
        page = one(transaction, STATEMENTS["cypher"])
        transaction.rollback()
    return [neo4j_windows.totals_of(ours, None, DAY, Head(1, 0, GENESIS)).sums, put_together(page)]


def one(transaction: Transaction, query: str, **parameters: int) -> list[Any]:
    record = transaction.run(query, {"tenant_id": TENANT, "start": START, "end": END, **parameters}).single()
    assert record is not None
    return record.values()


def in_postgres(connection: psycopg.Connection[Any], rows: Sequence[Row]) -> tuple[Any, ...]:
    """By the query of the page."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    found = connection.execute(STATEMENTS["sql"].encode(), [*columns, START, END]).fetchone()
    assert found is not None
    score = found[3]
    return (*found[:3], None if score is None else Fraction(score), found[4])


def assert_every_way_agrees(stores: Stores, rows: Sequence[Row], begin: int) -> WindowSum:
    expected, ppm = by_fractions(rows)

    assert step_by_step(rows, begin) == expected
    assert in_sqlite(stores.sqlite, rows) == [expected] * 2
    assert in_neo4j(stores.neo4j, rows) == [expected] * 2
    assert in_postgres(stores.postgres, rows) == the_row_of(expected)
    assert expected.score_ppm() == ppm
    return expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, begin=st.integers(START - DAY, END))
def test_ac_data_03_every_way_to_compute_a_score_gives_the_same_digits(
    stores: Stores, rows: list[Row], begin: int
) -> None:
    assert_every_way_agrees(stores, rows, begin)


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([QUANTUM], [LIMIT]),
        ([0, QUANTUM], [1, LIMIT]),
        ([1, QUANTUM - 1], [LIMIT - 1, LIMIT]),
        ([0], [LIMIT]),
        ([QUANTUM], [1]),
        (range(QUANTUM), range(LIMIT)),
    ],
    ids=["the largest", "0 and 1", "next to them", "nothing but 0", "the lightest", "any"],
)
def test_ac_data_03_every_way_agrees_on_12000_signals_at_the_limits(
    stores: Stores, values: Sequence[int], weights: Sequence[int]
) -> None:
    dice = chance(31)
    rows = [Row(dice.randint(START, END), dice.choice(values), dice.choice(weights)) for _ in range(MANY)]

    sums = assert_every_way_agrees(stores, rows, START)

    assert sums.count >= MANY - 1


@pytest.mark.parametrize(("halves", "ppm"), [((0, 1), 0), ((1, 2), 2), ((749_999, 750_000), 750_000)])
def test_ac_data_03_every_way_rounds_a_tie_to_the_even_digit(stores: Stores, halves: tuple[int, int], ppm: int) -> None:
    rows = [Row(END, half * (QUANTUM // 10**6), LIMIT) for half in halves]

    assert assert_every_way_agrees(stores, rows, END).score_ppm() == ppm
