"""Migrations of Neo4j: they only add, again and again if need be, whoever starts first."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters import neo4j
from coherence_grpc.adapters.neo4j.migrating import migrations
from coherence_grpc.errors import DataRefused, MigrationPending, SettingsInvalid, StoreDown
from tests.backends.fixtures import NEO4J, Neo4jAuth, emptied
from tests.builders import ManualClock, a_score, a_write
from tests.conformance.asking import append
from tests.conformance.on_neo4j import Neo4jHome
from tests.faultproxy import fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.anyio, *NEO4J]

ALLOWED = re.compile(
    r"CREATE (CONSTRAINT|INDEX) \w+ IF NOT EXISTS FOR \(\w+:\w+\) (REQUIRE [^;]+ IS UNIQUE|ON \([^;]+\))$"
)
UNIQUE = {
    ("CoherenceScore", "tenant_id"),
    ("Entry", "tenant_id", "seq"),
    ("Meta", "name"),
    ("Provenance", "provenance_id"),
    ("Provenance", "tenant_id", "request_id"),
    ("Signal", "tenant_id", "source", "signal_id", "ts"),
    ("Tenant", "tenant_id"),
}
RANGE = {
    ("Policy", "tenant_id", "seq"),
    ("Superseded", "tenant_id", "source", "signal_id", "ts"),
    ("Superseded", "tenant_id", "superseded_seq"),
    ("Signal", "tenant_id", "ts"),
    ("Signal", "tenant_id", "ts", "seq", "value_q", "weight_q"),
    ("Tenant", "head_time"),
}


def destructive(statements: Sequence[str]) -> Sequence[str]:
    """The statements that might take something from the release before: all but those known to add."""
    return [one for one in statements if not ALLOWED.match(" ".join(one.split()))]


@pytest.fixture
async def empty(neo4j_auth: Neo4jAuth) -> AsyncIterator[Neo4jHome]:
    """A database without nodes, constraints and indexes; they are made anew for who comes next."""
    home = Neo4jHome(await emptied(neo4j_auth))
    for (name,) in await home.look("SHOW CONSTRAINTS YIELD name"):
        await home.look(f"DROP CONSTRAINT {name}")
    for (name,) in await home.look("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"):
        await home.look(f"DROP INDEX {name}")
    yield home
    await neo4j.migrate(*await emptied(neo4j_auth))


async def indexed(home: Neo4jHome) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """What is unique, and the other indexes: each its label and properties."""
    query = "SHOW INDEXES YIELD labelsOrTypes, properties, owningConstraint, state, type WHERE type <> 'LOOKUP'"
    found = await home.look(f"{query} RETURN labelsOrTypes[0], properties, owningConstraint IS NOT NULL, state")
    assert {state for *_, state in found} == {"ONLINE"}
    rows = [((label, *properties), owned) for label, properties, owned, _ in found]
    return {row for row, owned in rows if owned}, {row for row, owned in rows if not owned}


@pytest.mark.parametrize("name", list(migrations()))
def test_migrations_only_add(name: str) -> None:
    assert destructive(migrations()[name]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP CONSTRAINT tenant_id",
        "DROP INDEX signal_tenant_ts IF EXISTS",
        "MATCH (n) DETACH DELETE n",
        "MATCH (s:Signal) REMOVE s.ts",
        "MATCH (s:Signal) SET s.ts = null",
        "CREATE INDEX signal_type FOR (s:Signal) ON (s.type)",
    ],
)
def test_a_migration_that_takes_something_away_or_runs_once_only_is_refused(statement: str) -> None:
    assert destructive([statement]) == [statement]


async def test_ac_data_01_a_migration_makes_the_constraints_and_indexes_and_can_be_run_again(empty: Neo4jHome) -> None:
    before = await neo4j.pending(*empty.auth)

    first = await neo4j.migrate(*empty.auth)
    second = await neo4j.migrate(*empty.auth)

    assert list(before) == list(first) == list(migrations())
    assert list(second) == list(await neo4j.pending(*empty.auth)) == []
    assert await indexed(empty) == (UNIQUE, RANGE)


async def test_ac_data_01_several_processes_may_migrate_at_once(empty: Neo4jHome) -> None:
    calls = [asyncio.create_task(neo4j.migrate(*empty.auth)) for _ in range(8)]

    applied = [name for call in calls for name in await call]

    assert set(applied) == set(migrations())
    assert await indexed(empty) == (UNIQUE, RANGE)
    assert await empty.look("MATCH (m:Meta) RETURN m.epoch, m.migrations") == [[1, list(migrations())]]


async def test_a_migration_that_something_else_is_in_the_way_of_says_so(empty: Neo4jHome) -> None:
    await empty.look("UNWIND [1, 2] AS n CREATE (:Tenant {tenant_id: 'twice'})")

    with pytest.raises(DataRefused, match="remove them"):
        await neo4j.migrate(*empty.auth)


async def test_a_graph_that_is_behind_is_not_opened(empty: Neo4jHome, clock: ManualClock) -> None:
    with pytest.raises(MigrationPending, match="`coherence migrate up`"):
        async with empty.signals(clock):
            pass


async def test_a_graph_that_a_newer_release_migrated_is_opened(migrated_graph: Neo4jHome, clock: ManualClock) -> None:
    await migrated_graph.look("MATCH (m:Meta) SET m.migrations = m.migrations + '9999_newer'")

    async with migrated_graph.signals(clock) as signals:
        assert await signals.tenants() == []

    assert list(await neo4j.pending(*migrated_graph.auth)) == []


async def test_rebuilding_forgets_what_was_published_and_raises_the_epoch(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write())
        signals.note_published(a_score(version=7))

    raised = [await neo4j.rebuild(*migrated_graph.auth, at_least=at_least) for at_least in (0, 100, 50)]

    async with migrated_graph.signals(clock) as signals:
        assert raised == [2, 100, 101]
        assert signals.epoch == 101
        assert await signals.published() == {}
        assert await migrated_graph.look("MATCH (c:CoherenceScore) RETURN c") == []
        (appended,) = await append(signals, a_write())
        assert (appended.head.epoch, appended.head.seq) == (101, 2)


async def test_a_store_whose_log_was_rebuilt_meanwhile_stores_nothing(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write())
        await neo4j.rebuild(*migrated_graph.auth, at_least=0)

        with pytest.raises(StoreDown, match="restart"):
            await append(signals, a_write())

        assert (await signals.head("acme")).seq == 1


async def test_a_wrong_password_is_said_at_the_start(neo4j_auth: Neo4jAuth) -> None:
    with pytest.raises(SettingsInvalid, match="NEO4J_PASSWORD") as refused:
        await neo4j.pending(neo4j_auth.uri, neo4j_auth.user, "wrong-password")

    assert "wrong-password" not in str(refused.value)


async def test_a_database_that_the_server_lacks_is_said_at_the_start(neo4j_auth: Neo4jAuth) -> None:
    with pytest.raises(SettingsInvalid, match="database"):
        await neo4j.pending(*neo4j_auth, database="nosuch")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "bolt://", "bolt://127.0.0.1:99999", "no address"])
async def test_what_is_no_address_is_said_at_the_start(uri: str) -> None:
    with pytest.raises((SettingsInvalid, StoreDown), match="NEO4J_URI"):
        await neo4j.pending(uri, "neo4j", "a password")


async def test_a_port_that_nobody_listens_at_is_said_at_the_start(neo4j_auth: Neo4jAuth) -> None:
    async with fault_proxy(1) as proxy:
        proxy.refuse()

        with pytest.raises(StoreDown, match="NEO4J_URI"):
            await neo4j.pending(f"bolt://127.0.0.1:{proxy.port}", neo4j_auth.user, neo4j_auth.password)
