"""A schema of one's own on the PostgreSQL server of the run."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from coherence_grpc.adapters import postgres
from tests.backends.fixtures import fresh_schema
from tests.faults import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from coherence_grpc.ports import ScoreStore


class Schema(NamedTuple):
    """Where it is: an address whose connections can be told from others, and its name."""

    uri: str
    name: str

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection of the test's own."""
        async with await psycopg.AsyncConnection.connect(self.uri, autocommit=True) as connection:
            await connection.execute(SQL("SET search_path = {}").format(Identifier(self.name)))
            yield connection

    async def rows(self, statement: str, **parameters: object) -> Sequence[Any]:
        """What the statement answers."""
        async with self.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else []

    def scores(self) -> AbstractAsyncContextManager[ScoreStore]:
        """The score store in it."""
        return postgres.open_score_store(self.uri, namespace=self.name)


@asynccontextmanager
async def a_schema(server: str) -> AsyncIterator[Schema]:
    """A new schema; no connection to it is left when the test is done."""
    async with fresh_schema(server) as name:
        schema = Schema(make_conninfo(server, application_name=name), name)
        yield schema
        async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
            await eventually(lambda: _connections(connection, name), lambda left: left == 0)


@asynccontextmanager
async def a_migrated_schema(server: str) -> AsyncIterator[Schema]:
    """One with the tables of this release."""
    async with a_schema(server) as schema:
        await postgres.migrate(schema.uri, namespace=schema.name)
        yield schema


async def _connections(connection: psycopg.AsyncConnection[Any], name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    row = await (await connection.execute(query, (name,))).fetchone()
    assert row is not None
    return int(row[0])


class PostgresHome:
    """A ScoreHome."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def scores(self) -> AbstractAsyncContextManager[ScoreStore]:
        return self._schema.scores()

    @asynccontextmanager
    async def lost_scores(self) -> AsyncIterator[ScoreStore]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self.scores())
        yield store
