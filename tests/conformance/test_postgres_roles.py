"""roles.sql: the role of a running service can do its work, and nothing else."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege

from coherence_grpc.adapters import postgres
from coherence_grpc.errors import SettingsInvalid
from coherence_grpc.model import DAY, SECOND
from coherence_grpc.ports import ScoreQuery
from tests.backends.fixtures import POSTGRES, an_own_server
from tests.builders import NOON, TENANT, a_score
from tests.conformance.on_postgres import a_migrated_schema
from tests.faults import eventually

if TYPE_CHECKING:
    from tests.conformance.on_postgres import Schema

pytestmark = [pytest.mark.anyio, POSTGRES]

TABLES = [
    "coherence_meta",
    "coherence_scores",
    "coherence_score_history",
    "score_policies",
    "ledger_checkpoints",
    "shard_leases",
    "shard_holders",
    "schema_version",
]
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CREATE ROLE coherence_app%'"


@pytest.fixture
async def app(schema: Schema) -> Schema:
    """The schema as a running service meets it; a score and a checkpoint are there."""
    roles = (files(postgres) / "roles.sql").read_text("utf-8")
    # Twice: it is run again after each migration.
    for _ in range(2):
        await schema.rows(roles)
    async with schema.scores() as scores:
        await scores.publish([a_score()])
    await schema.rows("INSERT INTO ledger_checkpoints VALUES ('acme', 1, '\\x01', 0, 'key', '\\x02')")
    return schema._replace(uri=make_conninfo(schema.uri, options="-c role=coherence_app"))


async def test_the_running_role_can_do_all_that_a_service_does(app: Schema) -> None:
    async with app.scores() as scores:
        rows = [a_score(version=version, window_end=NOON + version * SECOND) for version in (2, 3, 4)]
        won = [list(await scores.publish([row])) for row in rows]
        found = await scores.portfolio(ScoreQuery(), tenants=None, after=None, limit=10)
        thinned = await scores.thin(now=NOON + 8 * DAY, limit=100)
        again = await scores.thin(now=NOON + 8 * DAY, limit=100)
    async with postgres.open_leases(app.uri, namespace=app.name, holder="a") as leases:
        held = leases.holds(TENANT)

    assert (won, found, thinned, again, held) == ([[True]] * 3, [rows[-1]], 2, 0, True)
    await app.rows("INSERT INTO ledger_checkpoints VALUES ('acme', 2, '\\x03', 0, 'key', '\\x04')")
    assert len(await app.rows("SELECT * FROM ledger_checkpoints")) == 2


@pytest.mark.parametrize(
    "statement",
    [
        *(f"DROP TABLE {table}" for table in TABLES),
        *(f"ALTER TABLE {table} ADD COLUMN more TEXT" for table in TABLES),
        *(f"TRUNCATE {table}" for table in TABLES),
        "DELETE FROM ledger_checkpoints",
        "UPDATE ledger_checkpoints SET head_hash = '\\x00'",
        "DELETE FROM coherence_scores",
        "UPDATE coherence_score_history SET score = 0",
        "UPDATE coherence_meta SET epoch = 1",
        "DELETE FROM coherence_meta",
        "DELETE FROM schema_version",
        "INSERT INTO schema_version (name) VALUES ('9999_never')",
        "CREATE TABLE more (more TEXT)",
        "DROP INDEX coherence_scores_due",
    ],
)
async def test_the_running_role_is_refused(app: Schema, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        await app.rows(statement)


async def test_the_running_role_neither_migrates_nor_rebuilds_and_is_told_who_does(app: Schema) -> None:
    assert await app.rows("SELECT current_user::text") == [("coherence_app",)]

    with pytest.raises(SettingsInvalid, match="as the user that migrates"):
        await postgres.rebuild(app.uri, namespace=app.name, at_least=7)
    with pytest.raises(SettingsInvalid, match="may not make tables"):
        await postgres.migrate(app.uri, namespace=f"{app.name}_more")

    async with app.scores() as scores:
        assert await scores.get([TENANT]) == {TENANT: a_score()}


async def test_a_user_that_lacks_a_right_is_told_which_when_the_store_is_opened(app: Schema, schema: Schema) -> None:
    await schema.rows("REVOKE DELETE ON coherence_score_history FROM coherence_app")

    with pytest.raises(SettingsInvalid, match=r"lacks DELETE on coherence_score_history; apply roles.sql"):
        async with app.scores():
            pass


async def test_two_databases_of_a_server_may_make_the_role_at_the_same_time() -> None:
    roles = (files(postgres) / "roles.sql").read_text("utf-8")
    # Of its own: on the shared server the role is there, and other tests need it.
    with an_own_server("postgres") as own:
        uri = own.variables["POSTGRES_URI"]
        async with a_migrated_schema(uri) as schema, await AsyncConnection.connect(uri) as other:
            # As it is done from another database, whose locks are seen nowhere else.
            await other.execute("CREATE ROLE coherence_app NOLOGIN")
            async with asyncio.TaskGroup() as group:
                applying = group.create_task(schema.rows(roles))
                await eventually(lambda: schema.rows(WAITING), lambda waiting: len(waiting) == 1)
                still = not applying.done()
                await other.commit()

            app = schema._replace(uri=make_conninfo(schema.uri, options="-c role=coherence_app"))
            async with app.scores() as scores:
                assert list(await scores.publish([a_score()])) == [True]

    assert still
