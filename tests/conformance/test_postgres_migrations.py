"""Migrations of PostgreSQL: they only add, once, whoever starts first."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters import postgres
from coherence_grpc.adapters.postgres.migrating import migrations
from coherence_grpc.errors import DataRefused, MigrationPending
from tests.builders import TENANT, a_score
from tests.conformance.on_postgres import a_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.conformance.on_postgres import Schema

pytestmark = pytest.mark.anyio

ALLOWED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"CREATE TABLE \w+ \(",
        r"CREATE (UNIQUE )?INDEX \w+ ON \w+ \(",
        r"COMMENT ON ",
        r"INSERT INTO \w+ .*ON CONFLICT DO NOTHING$",
        # A column that older releases don't know of is filled without them.
        r"ALTER TABLE \w+ ADD COLUMN \w+ (?!.*\bNOT NULL\b(?!.*\bDEFAULT\b))(?!.*\b(DROP|ALTER|RENAME)\b)[^;]*$",
    )
]
TABLES = [
    "coherence_meta",
    "coherence_score_history",
    "coherence_scores",
    "ledger_checkpoints",
    "schema_version",
    "score_policies",
    "shard_holders",
    "shard_leases",
]


def destructive(script: str) -> Sequence[str]:
    """The statements that might take something from the release before: all but those known to add."""
    text = re.sub(r"--[^\n]*", "", script)
    statements = [" ".join(statement.split()) for statement in text.split(";")]
    return [one for one in statements if one and not any(pattern.match(one) for pattern in ALLOWED)]


@pytest.fixture
async def empty(postgres_uri: str) -> AsyncIterator[Schema]:
    """A schema without tables."""
    async with a_schema(postgres_uri) as schema:
        yield schema


@pytest.mark.parametrize("name", list(migrations()))
def test_migrations_only_add(name: str) -> None:
    assert destructive(migrations()[name]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE coherence_scores",
        "TRUNCATE coherence_scores",
        "DELETE FROM coherence_scores",
        "UPDATE coherence_scores SET score = 0",
        "ALTER TABLE coherence_scores DROP COLUMN score",
        "ALTER TABLE coherence_scores RENAME COLUMN score TO points",
        "ALTER TABLE coherence_scores ALTER COLUMN score TYPE numeric(5, 2)",
        "ALTER TABLE coherence_scores ADD COLUMN held_status TEXT NOT NULL",
        "ALTER TABLE coherence_scores ADD COLUMN held_status TEXT, DROP COLUMN score",
        "DROP INDEX coherence_scores_due",
        "INSERT INTO coherence_meta (epoch) VALUES (1)",
    ],
)
def test_a_migration_that_takes_something_away_is_refused(statement: str) -> None:
    script = f"-- A comment.\nCREATE TABLE x (\n    y TEXT);\n{statement};\n"

    assert destructive(script) == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE coherence_scores ADD COLUMN held_since BIGINT",
        "ALTER TABLE coherence_scores ADD COLUMN held_status TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX by_status ON coherence_scores (status)",
    ],
)
def test_a_migration_may_add(statement: str) -> None:
    assert destructive(statement) == []


async def test_a_migration_is_applied_once(empty: Schema) -> None:
    before = await postgres.pending(empty.uri, namespace=empty.name)

    first = await postgres.migrate(empty.uri, namespace=empty.name)
    second = await postgres.migrate(empty.uri, namespace=empty.name)

    assert list(before) == list(first) == list(migrations())
    assert list(second) == list(await postgres.pending(empty.uri, namespace=empty.name)) == []
    tables = await empty.rows("SELECT tablename FROM pg_tables WHERE schemaname = %(name)s ORDER BY 1", name=empty.name)
    assert [name for (name,) in tables] == TABLES


async def test_of_several_processes_that_start_at_once_one_migrates(empty: Schema) -> None:
    calls = [asyncio.create_task(postgres.migrate(empty.uri, namespace=empty.name)) for _ in range(8)]

    applied = [list(await call) for call in calls]

    assert sorted(applied) == [[]] * 7 + [list(migrations())]


async def test_a_missing_schema_is_made(postgres_uri: str, empty: Schema) -> None:
    await empty.rows(f"DROP SCHEMA {empty.name}")

    applied = await postgres.migrate(postgres_uri, namespace=empty.name)

    assert list(applied) == list(migrations())


async def test_a_migration_keeps_what_is_stored(schema: Schema) -> None:
    async with schema.scores() as scores:
        await scores.publish([a_score()])

    await postgres.migrate(schema.uri, namespace=schema.name)

    async with schema.scores() as scores:
        assert await scores.get([TENANT]) == {TENANT: a_score()}


async def test_a_store_whose_migrations_are_behind_is_refused_with_the_command_to_run(empty: Schema) -> None:
    with pytest.raises(MigrationPending, match="coherence migrate up"):
        async with empty.scores():
            pass
    with pytest.raises(MigrationPending, match="coherence migrate up"):
        async with postgres.open_leases(empty.uri, namespace=empty.name, holder="a"):
            pass
    with pytest.raises(MigrationPending, match="coherence migrate up"):
        await postgres.rebuild(empty.uri, namespace=empty.name, at_least=1)


async def test_what_a_newer_release_added_is_no_obstacle(schema: Schema) -> None:
    await schema.rows("INSERT INTO schema_version (name) VALUES ('9999_later')")
    await schema.rows("ALTER TABLE coherence_scores ADD COLUMN later TEXT NOT NULL DEFAULT ''")

    async with schema.scores() as scores:
        won = await scores.publish([a_score()])

    assert list(won) == [True]
    assert list(await postgres.pending(schema.uri, namespace=schema.name)) == []


async def test_tables_that_no_migration_made_are_left_alone(empty: Schema) -> None:
    await empty.rows("CREATE TABLE coherence_scores (tenant_id TEXT PRIMARY KEY, score NUMERIC(5, 2) NOT NULL)")
    await empty.rows("INSERT INTO coherence_scores VALUES ('acme', 0.75)")

    with pytest.raises(DataRefused, match="rename or drop"):
        await postgres.migrate(empty.uri, namespace=empty.name)

    assert [tenant for tenant, _ in await empty.rows("SELECT * FROM coherence_scores")] == ["acme"]
    tables = await empty.rows("SELECT tablename FROM pg_tables WHERE schemaname = %(name)s", name=empty.name)
    assert [name for (name,) in tables] == ["coherence_scores"]
